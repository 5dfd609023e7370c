"""On call: incidents as people work them, probes, notices, and the schedule that keeps the page fresh."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mangaassist.cli.session import (
    ActorOption,
    HomeOption,
    JsonOption,
    ReasonOption,
    Session,
    session,
)
from mangaassist.core.errors import ExitCode

action = typer.Typer(no_args_is_help=True, help="What is done so that it does not happen again.")

IncidentArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of the incident, or how it begins.")]
CategoryOption = Annotated[str, typer.Option("--category", help="The category as confirmed.")]


def register(incident: typer.Typer) -> None:
    """Hang these commands into the ``incident`` group."""
    incident.command("list")(list_)
    for command in (show, acknowledge, mitigate, recovered, close, retro, probe, notices):
        incident.command()(command)
    incident.add_typer(action, name="action")


def list_(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Every incident, the readiness numbers of the quarter, and the open action items."""
    from mangaassist.cli import render
    from mangaassist.core.verdict import Verdict
    from mangaassist.lifecycle.desk import listing

    here = session(context, home, as_json)
    body = listing(here.platform())

    def text() -> None:
        rows = [
            (
                one["id"],
                render.minute(one["opened"]),
                _where(one["clock"]),
                (one["localisation"] or {}).get("category"),
                " ".join(sorted({alarm["name"] for alarm in one["alarms"]})),
            )
            for one in body["incidents"]
        ]
        render.table("Incidents", ("id", "opened", "stage", "category", "alarms"), rows)
        render.verdicts([Verdict.from_dict(one) for one in body["rates"]], title="This quarter")
        _items(body["action_items"])

    here.answer(body, text)


def show(
    context: typer.Context, incident: IncidentArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """One incident: its clock, what it was localised to, the proposed command and its timeline."""
    from mangaassist.incidents.reading import incident as read
    from mangaassist.lifecycle.desk import shown

    here = session(context, home, as_json)
    platform = here.platform()
    body = shown(read(platform.ledger, incident), platform)
    here.answer(body, lambda: _show(body))


def _show(body: dict[str, Any]) -> None:
    from mangaassist.cli import render
    from mangaassist.core.verdict import Verdict

    walk = body["localisation"] or {}
    mitigation = walk.get("mitigation", {})
    render.fields(
        f"Incident {body['id']}",
        {
            "opened": render.minute(body["opened"]),
            "stage": _where(body["clock"]),
            "minutes": body["clock"]["elapsed_minutes"],
            "category": walk.get("category"),
            "do": mitigation.get("sentence"),
            "command": mitigation.get("command"),
            "runbook": mitigation.get("runbook"),
        },
    )
    render.verdicts([Verdict.from_dict(one) for one in body["clock"]["verdicts"]], title="Clock")
    rows = [(render.minute(one["at"]), one["kind"], one["actor"], _reason(one)) for one in body["timeline"]]
    render.table("Timeline", ("at", "what", "by", ""), rows)


def acknowledge(
    context: typer.Context,
    incident: IncidentArgument,
    actor: ActorOption = "on_call",
    reason: ReasonOption = "On it.",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that somebody is working on it."""
    from mangaassist.incidents.clock import ACKNOWLEDGED

    _move(session(context, home, as_json), incident, ACKNOWLEDGED, actor, reason)


def mitigate(
    context: typer.Context,
    incident: IncidentArgument,
    reason: ReasonOption,
    actor: ActorOption = "on_call",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that shoppers are hurt no more, and by what."""
    from mangaassist.incidents.records import MITIGATED

    _move(session(context, home, as_json), incident, MITIGATED, actor, reason)


def recovered(
    context: typer.Context,
    incident: IncidentArgument,
    reason: ReasonOption,
    actor: ActorOption = "on_call",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that the numbers are back to usual."""
    from mangaassist.incidents.records import RECOVERED

    _move(session(context, home, as_json), incident, RECOVERED, actor, reason)


def _move(here: Session, incident: str, kind: str, actor: str, reason: str) -> None:
    from mangaassist.lifecycle.desk import move, shown

    platform = here.platform()
    body = shown(move(platform, incident, kind, actor=actor, reason=reason), platform)
    here.answer(body, lambda: _show(body))


def close(
    context: typer.Context,
    incident: IncidentArgument,
    reason: ReasonOption,
    actor: ActorOption = "on_call",
    category: CategoryOption = "",
    cause: Annotated[str, typer.Option("--cause", help="What it was: a change, a shard, an event.")] = "",
    false_alarm: Annotated[bool, typer.Option("--false-alarm", help="Nothing was wrong.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """End an incident: keep its retrospective and open its action items."""
    from mangaassist.lifecycle.desk import close as end

    here = session(context, home, as_json)
    document = end(
        here.platform(),
        incident,
        actor=actor,
        reason=reason,
        category=category,
        cause=cause,
        false_alarm=false_alarm,
    )
    here.answer(document.as_dict(), lambda: typer.echo(document.markdown()))


def retro(
    context: typer.Context, incident: IncidentArgument, home: HomeOption = None, as_json: JsonOption = False
) -> None:
    """The seven-section blameless retrospective, from the timeline, in Markdown."""
    from mangaassist.lifecycle.desk import retrospective

    here = session(context, home, as_json)
    document = retrospective(here.platform(), incident)
    here.answer(document.as_dict(), lambda: typer.echo(document.markdown()))


def probe(context: typer.Context, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Ask every dependency of this home now."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.probing import probe as ask

    here = session(context, home, as_json)
    found = ask(here.platform())
    body = {"ok": all(one.passed for one in found), "probes": [one.as_dict() for one in found]}
    here.answer(body, lambda: render.verdicts(found, title="Probes (value and limit in ms)"))
    if not body["ok"]:
        raise typer.Exit(ExitCode.BROKEN)


def notices(
    context: typer.Context,
    test: Annotated[bool, typer.Option("--test", help="Write a test notice to everybody first.")] = False,
    deliver: Annotated[bool, typer.Option("--deliver", help="Send what is due now.")] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """The newest notices, and whether they arrived."""
    from mangaassist.cli import render
    from mangaassist.lifecycle.desk import notice_listing

    here = session(context, home, as_json)
    body = notice_listing(here.platform(), test=test, deliver=deliver)
    rows = [
        (
            render.minute(one["at"]),
            one["severity"],
            one["title"],
            ", ".join(f"{to['shown']} {to['state']}" for to in one["deliveries"]) or "nowhere to go",
        )
        for one in body["notices"]
    ]

    def text() -> None:
        typer.echo(body["verdict"]["sentence"])
        render.table("Notices", ("at", "severity", "title", "delivery"), rows)

    here.answer(body, text)
    if body["verdict"]["status"] == "fail":
        raise typer.Exit(ExitCode.BROKEN)


@action.command()
def add(
    context: typer.Context,
    incident: IncidentArgument,
    title: Annotated[str, typer.Option(help="What is to be done.")],
    owner: Annotated[str, typer.Option(help="Whose it is: a role.")],
    days: Annotated[int, typer.Option(min=1, help="Due in so many days.")] = 14,
    watch: Annotated[
        str, typer.Option(help="Make it a monitor: 'PANEL:NAME[@COHORT]<LIMIT' or '>LIMIT'.")
    ] = "",
    actor: ActorOption = "on_call",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open an action item; with --watch it is held against its limit from now on."""
    from datetime import timedelta

    from mangaassist.incidents.actions import ActionItem, Monitor
    from mangaassist.lifecycle.desk import add_action

    here = session(context, home, as_json)
    platform = here.platform()
    due = platform.clock.now() + timedelta(days=days)
    item = ActionItem(incident, title, owner, due, Monitor.parse(watch) if watch else None)
    item = add_action(platform, item, actor=actor)
    here.answer(item.as_dict(), lambda: _items([item.as_dict()]))


@action.command()
def done(
    context: typer.Context,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Id of the action item.")],
    reason: ReasonOption,
    actor: ActorOption = "on_call",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Close an action item; a monitor goes on watching."""
    from mangaassist.incidents.actions import close as end

    here = session(context, home, as_json)
    platform = here.platform()
    found = end(platform.ledger, item, outcome=reason, actor=actor, at=platform.clock.now())
    here.answer(found.as_dict(), lambda: _items([found.as_dict()]))


def run(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Run what is due and stop.")] = False,
    job: Annotated[
        list[str] | None, typer.Option("--job", help="Only this job, due or not; may be repeated.")
    ] = None,
    dagster: Annotated[
        bool, typer.Option("--dagster", help="Show and run it all under Dagster (extra) instead.")
    ] = False,
    port: Annotated[int, typer.Option(min=1, max=65535, help="With --dagster: port of its pages.")] = 3000,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the schedule of this home: rollouts, drift, retrains, features, probes, notices, the page."""
    from mangaassist.lifecycle.running import Running, alone
    from mangaassist.lifecycle.schedule import Last

    here = session(context, home, as_json)
    platform = here.platform()
    if dagster:
        from mangaassist.lifecycle.foreign_schedule import start

        start(platform.home, host="127.0.0.1", port=port)

    def tell(last: Last) -> None:
        mark = "" if last.ok else "FAILED  "
        here.note(f"{last.started:%H:%M:%S}  {last.name:<10} {mark}{last.said}")

    if once or job:
        found = Running(platform, notify=tell).once(job or ())
        here.answer(
            {"ok": all(one.ok for one in found), "jobs": [one.as_dict() for one in found]}, lambda: None
        )
        if not all(one.ok for one in found):
            raise typer.Exit(ExitCode.BROKEN)
        return
    with alone(platform):
        running = Running(platform, notify=tell)
        here.answer(
            {"home": str(here.home)}, lambda: here.note(f"The schedule of {here.home} runs; Ctrl-C ends it.")
        )
        running.start()
        try:
            running.wait()
        finally:
            running.stop()


def _where(clock: dict[str, Any]) -> str:
    if clock["stage"]:
        return str(clock["stage"])
    return "closed" if "closed" in clock["moments"] else "recovered"


def _reason(entry: dict[str, Any]) -> str:
    body = entry["body"]
    return str(body.get("reason") or body.get("category") or body.get("title") or "")


def _items(items: list[dict[str, Any]]) -> None:
    from mangaassist.cli import render

    rows = [
        (one["id"], one["incident"], one["title"], one["owner"], one["due"][:10], one["outcome"])
        for one in items
    ]
    render.table("Action items", ("id", "incident", "what", "owner", "due", "outcome"), rows)
