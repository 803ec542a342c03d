"""CSVs that are wrong as a whole, or in one line, and what is said of each."""

from dataclasses import dataclass

HEADER = b"vehicle_id,technology,actual_price,recommended_price,num_images,street_parked,description\n"
GOOD = b"%d,1,69.50,50,4,1,57\n"
VEHICLES = HEADER + b"".join(GOOD % number for number in range(1, 201))
RESERVATIONS = b"vehicle_id,created_at\n" + b"".join(
    b"%d,2023-09-30 02:03:%02d\n" % (1 + number, number % 60) for number in range(200)
)


def vehicles(*lines: bytes, good: int = 0) -> bytes:
    """A file of `good` good vehicles, and these lines."""
    return HEADER + b"".join(GOOD % number for number in range(1, good + 1)) + b"".join(lines)


@dataclass(frozen=True)
class Hostile:
    name: str
    content: bytes
    message: str
    source: str = "vehicles"


def cell(position: int, text: str) -> bytes:
    """A vehicle's line that is good but for one cell."""
    cells = ["900", "1", "69.50", "50", "4", "1", "57"]
    return ",".join([*cells[:position], text, *cells[position + 1 :]]).encode() + b"\n"


# What makes a file useless as a whole.
USELESS = [
    Hostile("empty file", b"", "vehicles.csv: the file is empty"),
    Hostile("header only", HEADER, "vehicles.csv: the file has a header and no rows"),
    Hostile(
        "header only, without a line break", HEADER.strip(), "vehicles.csv: the file has a header and no rows"
    ),
    Hostile("only blank lines", b"\n\n\n", "vehicles.csv line 1: the header is empty"),
    Hostile("only a byte order mark", b"\xef\xbb\xbf", "vehicles.csv line 1: the header is empty"),
    Hostile(
        "missing column",
        VEHICLES.replace(b",num_images,", b",photos,"),
        "vehicles.csv line 1: column num_images is missing; the header is vehicle_id, technology, actual_price, "
        "recommended_price, photos, street_parked, description",
    ),
    Hostile(
        "duplicate column",
        VEHICLES.replace(b"street_parked,", b"technology,street_parked,", 1),
        "vehicles.csv line 1: column technology occurs twice",
    ),
    Hostile(
        "no header",
        VEHICLES.removeprefix(HEADER),
        "vehicles.csv line 1: column vehicle_id, technology, actual_price, recommended_price, num_images, "
        "street_parked, description is missing; the header is 1, 1, 69.50, 50, 4, 1, 57",
    ),
    Hostile(
        "semicolons",
        VEHICLES.replace(b",", b";"),
        "the header is vehicle_id;technology;actual_price;recommended_price;num_images;street_parked;description; "
        "separate the columns by commas",
    ),
    Hostile(
        "UTF-16",
        VEHICLES.decode().encode("utf-16"),
        "vehicles.csv line 1 is UTF-16; declare `format: {encoding: utf-16}`, or save the file as UTF-8",
    ),
    Hostile(
        "header that is not UTF-8",
        b"v\xe9hicule," + VEHICLES,
        "vehicles.csv line 1 holds byte 0xe9, which is not UTF-8; declare `format: {encoding: …}`, e.g. windows-1252, or save it as UTF-8; a CSV header is expected here",
    ),
    Hostile("a spreadsheet", b"PK\x03\x04\x14\0\x06\0" * 99, "vehicles.csv line 1 holds a NUL byte (0x00)"),
    Hostile("only NUL bytes", bytes(5000), "vehicles.csv line 1 holds a NUL byte (0x00)"),
    Hostile("a header of 3 MB", b"x" * 3_000_000, "vehicles.csv line 1 is longer than 65536 bytes"),
    Hostile(
        "lines that end in a carriage return alone",
        VEHICLES.replace(b"\n", b"\r"),
        "vehicles.csv line 1 holds a carriage return that ends no line; end lines with LF or CRLF",
    ),
    Hostile(
        "header with an open quote",
        b'"' + VEHICLES,
        "vehicles.csv line 1: the header is not valid CSV: unexpected end of data",
    ),
    Hostile(
        "HTML instead of the file",
        b"<!doctype html>\n<html><body>404</body></html>\n",
        "is missing; the header is <!doctype html>; separate the columns by commas",
    ),
    Hostile(
        "every row bad",
        vehicles(*[cell(2, "free")] * 5),
        "vehicles.csv: 5 of 5 rows are bad (100.000%; at most 1.000% is tolerated); the most frequent fault: "
        "data/reservations/vehicles.csv line 2, column actual_price: 'free' is not a finite number",
    ),
    Hostile(
        "half of the rows twice",
        VEHICLES + VEHICLES.removeprefix(HEADER)[: -100 * len(GOOD)],
        "column vehicle_id: '1' is in line 2 already",
    ),
    Hostile(
        "reservations of vehicles that are not there",
        RESERVATIONS.replace(b"\n1", b"\n7771"),
        "column vehicle_id: '7771' does not occur in vehicles.vehicle_id",
        "reservations",
    ),
    Hostile(
        "a thousand bad numbers in the wrong order of columns",
        HEADER + b"".join(b"%d,69.50,1,50,4,1,57\n" % number for number in range(1000)),
        "line 2, column technology: '69.50' is not a whole number",
    ),
]
# What makes a line useless: line 202, behind 200 good ones.
TYPE_OF_NUMBER, TYPE_OF_INTEGER = "is not a finite number", "is not a whole number"
BAD_LINES = [
    Hostile("text in a number", cell(2, "cheap"), f"column actual_price: 'cheap' {TYPE_OF_NUMBER}"),
    Hostile("formula", cell(2, "=1+1"), f"column actual_price: '=1+1' {TYPE_OF_NUMBER}"),
    Hostile(
        "formula that runs a program",
        cell(6, "=cmd|' /C calc'!A0"),
        f"\"=cmd|' /C calc'!A0\" {TYPE_OF_INTEGER}",
    ),
    Hostile("negative price", cell(2, "-3"), "column actual_price: -3 is not > 0 and ≤ 10000 USD/day"),
    Hostile("price of nothing", cell(2, "0"), "column actual_price: 0 is not > 0 and ≤ 10000 USD/day"),
    Hostile("price that underflows", cell(2, "1e-999"), "column actual_price: 1e-999 is not > 0"),
    Hostile(
        "price out of range", cell(3, "10000.01"), "column recommended_price: 10000.01 is not > 0 and ≤ 10000"
    ),
    Hostile("NaN", cell(2, "NaN"), f"column actual_price: 'NaN' {TYPE_OF_NUMBER}"),
    Hostile("infinity", cell(2, "inf"), f"column actual_price: 'inf' {TYPE_OF_NUMBER}"),
    Hostile("1e999", cell(2, "1e999"), f"column actual_price: '1e999' {TYPE_OF_NUMBER}"),
    Hostile("hexadecimal", cell(2, "0x10"), f"column actual_price: '0x10' {TYPE_OF_NUMBER}"),
    Hostile("underscore in a number", cell(2, "1_0"), f"column actual_price: '1_0' {TYPE_OF_NUMBER}"),
    Hostile("currency sign", cell(2, "$69.50"), f"column actual_price: '$69.50' {TYPE_OF_NUMBER}"),
    Hostile("thousands", cell(2, '"1,069.50"'), f"column actual_price: '1,069.50' {TYPE_OF_NUMBER}"),
    Hostile("digits of another script", cell(4, "٤"), f"column num_images: '٤' {TYPE_OF_INTEGER}"),
    Hostile("minus sign of typography", cell(2, "−3"), f"column actual_price: '−3' {TYPE_OF_NUMBER}"),
    Hostile("spreadsheet's error", cell(3, "#N/A"), f"column recommended_price: '#N/A' {TYPE_OF_NUMBER}"),
    Hostile("decimals in a whole number", cell(4, "4.5"), f"column num_images: '4.5' {TYPE_OF_INTEGER}"),
    Hostile("41 digits", cell(0, "9" * 41), f"column vehicle_id: '{'9' * 41}' {TYPE_OF_INTEGER}"),
    Hostile(
        "largest whole number", cell(6, "9223372036854775807"), "9223372036854775807 is not ≥ 0 and ≤ 100000"
    ),
    Hostile("true instead of 1", cell(1, "true"), f"column technology: 'true' {TYPE_OF_INTEGER}"),
    Hostile("flag of 2", cell(5, "2"), "column street_parked: 2 is not ≥ 0 and ≤ 1 flag"),
    Hostile("empty cell", cell(4, ""), "column num_images: is empty"),
    Hostile("blank cell", cell(4, " \u00a0 "), "column num_images: is empty"),
    Hostile("quoted nothing", cell(4, '""'), "column num_images: is empty"),
    Hostile("NULL", cell(4, "NULL"), f"column num_images: 'NULL' {TYPE_OF_INTEGER}"),
    Hostile("duplicate id", cell(0, "7"), "column vehicle_id: '7' is in line 8 already"),
    Hostile("the same line again", GOOD % 7, "column vehicle_id: '7' is in line 8 already"),
    Hostile("too few cells", b"900,1,69.50\n", "line 202: has 3 cells, the header has 7"),
    Hostile("too many cells", cell(2, "69,50"), "line 202: has 8 cells, the header has 7"),
    Hostile("truncated last line", b"900,1,69.50,5", "line 202: has 4 cells, the header has 7"),
    Hostile("open quote", cell(4, '"4'), "50,\"4,1,57' has a quote that is not closed"),
    Hostile(
        "quote inside a cell",
        cell(4, '4"4'),
        "line 202: has a quote that is not closed, or that stands inside",
    ),
    Hostile(
        "text behind a quote",
        cell(4, '"4"4'),
        "line 202: has a quote that is not closed, or that stands inside",
    ),
    Hostile(
        "Latin-1",
        b"900,1,\xa350,50,4,1,57\n",
        "line 202: '900,1,\\\\xa350,50,4,1,57' holds byte 0xa3, which is not",
    ),
    Hostile("NUL byte", b"900,1,69\x00.50,50,4,1,57\n", "holds a NUL byte (0x00)"),
    Hostile("unit separator", b"900,1,69.50\x1f,50,4,1,57\n", "holds a control character (0x1f)"),
    Hostile("record separator", b"\x1ea\x1eb\x1ec\n", "holds a control character (0x1e)"),
    Hostile(
        "carriage return inside", b"900,1,69.50,\r50,4,1,57\n", "holds a carriage return that ends no line"
    ),
    Hostile("line of 3 MB", b"9" * 3_000_000 + b"\n", f"line 202: '{'9' * 60}…' is longer than 65536 bytes"),
    Hostile("line of 70 kB", b"9" * 70_000 + b"\n", f"line 202: '{'9' * 60}…' is longer than 65536 bytes"),
    Hostile(
        "line of 60 kB in one cell",
        cell(4, "9" * 60_000),
        f"column num_images: '{'9' * 60}…' {TYPE_OF_INTEGER}",
    ),
    Hostile("ten thousand commas", b"," * 10_000 + b"\n", "line 202: has 10001 cells, the header has 7"),
]
STAMP = "is not a date and time (2023-07-27 14:58:26)"
BAD_RESERVATIONS = [
    Hostile(
        "orphan",
        b"777,2023-09-30 02:03:39\n",
        "column vehicle_id: '777' does not occur in vehicles.vehicle_id",
    ),
    Hostile("no vehicle", b",2023-09-30 02:03:39\n", "column vehicle_id: is empty"),
    Hostile(
        "time with a zone's name",
        b"7,2023-09-30T02:03:39 CET\n",
        f"column created_at: '2023-09-30T02:03:39 CET' {STAMP}",
    ),
    Hostile("offset of a day", b"7,2023-09-30 02:03:39+24:99\n", f"'2023-09-30 02:03:39+24:99' {STAMP}"),
    Hostile("30 February", b"7,2023-02-30 02:03:39\n", f"column created_at: '2023-02-30 02:03:39' {STAMP}"),
    Hostile("hour 25", b"7,2023-09-30 25:03:39\n", f"column created_at: '2023-09-30 25:03:39' {STAMP}"),
    Hostile("hour 24, which is tomorrow", b"7,2023-09-30 24:00:00\n", f"'2023-09-30 24:00:00' {STAMP}"),
    Hostile("American date", b"7,09/30/2023\n", f"column created_at: '09/30/2023' {STAMP}"),
    Hostile("seconds since 1970", b"7,1696039419\n", f"column created_at: '1696039419' {STAMP}"),
    Hostile("end of time", b"7,infinity\n", f"column created_at: 'infinity' {STAMP}"),
    Hostile("year 0", b"7,0000-01-01 00:00:00\n", f"column created_at: '0000-01-01 00:00:00' {STAMP}"),
    Hostile("nanoseconds, which would be cut", b"7,2023-09-30 02:03:39.123456789\n", STAMP),
    Hostile(
        "time cut off in the middle", b"7,2023-09-30 02:0", f"column created_at: '2023-09-30 02:0' {STAMP}"
    ),
]
