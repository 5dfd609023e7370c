"""Arrow rows in the few types every engine here agrees on."""

from __future__ import annotations

import pyarrow as pa

from mangaassist.core.errors import InputError, nearest

_TIMESTAMP = pa.timestamp("us", tz="UTC")


def storable_type(column: str, kind: pa.DataType) -> pa.DataType:
    """The type a column of ``kind`` is stored as.

    Text becomes large_string, integers int32 or int64, floats float32 or float64, instants microseconds UTC.

    Raises:
        InputError: naive timestamps (their meaning would be a guess) and types without a stored form.
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        return _TIMESTAMP
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_integer(kind):
        return pa.int64() if kind.bit_width == 64 or kind == pa.uint32() else pa.int32()
    if pa.types.is_floating(kind):
        return pa.float64() if kind.bit_width == 64 else pa.float32()
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return pa.large_binary()
    if pa.types.is_boolean(kind) or pa.types.is_date32(kind):
        return kind
    raise InputError(
        f"column '{column}'",
        expected="text, a number, a boolean, a date, bytes or a timestamp with a time zone",
        got=str(kind),
        next_step="Convert it first; store nested values as JSON text.",
    )


def storable_schema(schema: pa.Schema) -> pa.Schema:
    """``schema`` in stored types, its metadata dropped."""
    return pa.schema(
        [pa.field(field.name, storable_type(field.name, field.type), field.nullable) for field in schema]
    )


def conform(table: str, rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """``rows`` with the columns of ``schema`` in its order and types.

    Raises:
        InputError: a column is missing, unknown, or holds a value its type cannot.
    """
    names = set(schema.names)
    for name in rows.column_names:
        if name not in names:
            raise InputError(
                f"table '{table}'", expected="known columns", got=f"'{name}'", next_step=nearest(name, names)
            )
    columns = []
    for field in schema:
        if field.name not in rows.column_names:
            raise InputError(
                f"table '{table}'",
                expected=f"a column '{field.name}'",
                got=f"columns {', '.join(rows.column_names)}",
                next_step="Add it; empty values are allowed where the column is nullable.",
            )
        columns.append(_cast(table, field, rows[field.name]))
    return pa.table(columns, schema=schema)


def widened(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """``rows`` with the columns of ``schema`` they lack, empty."""
    for field in schema:
        if field.name not in rows.column_names:
            rows = rows.append_column(field.name, pa.nulls(rows.num_rows, field.type))
    return rows


def _cast(table: str, field: pa.Field, values: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_timestamp(values.type) and values.type.tz is None:
        storable_type(field.name, values.type)
    try:
        # Nanoseconds lose their last three digits on purpose; nothing else may lose any.
        cast = values.cast(field.type, safe=not pa.types.is_timestamp(values.type))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _unfit(table, field, str(error)) from error
    if not field.nullable and cast.null_count:
        raise _unfit(table, field, f"{cast.null_count} empty values")
    return cast


def _unfit(table: str, field: pa.Field, got: str) -> InputError:
    return InputError(
        f"table '{table}', column '{field.name}'",
        expected=str(field.type),
        got=got,
        next_step="Correct the values, or write them to another table.",
    )
