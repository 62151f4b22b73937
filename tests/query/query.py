"""Runs the blocks of docs/QUERY.md on an archive, as they stand there, and checks what they say.

    python tests/query/query.py ARCHIVE

The archive holds at least one week of the event `all` with records, as a demo's does.
"""

import json
import os
import pathlib
import re
import sys
import tempfile

import duckdb
import sqlglot

TEXT = (pathlib.Path(__file__).resolve().parents[2] / "docs/QUERY.md").read_text()

# What a column of Athena's is in DuckDB's words.
ATHENA = {"string": "VARCHAR", "timestamp": "TIMESTAMP WITH TIME ZONE"}


def blocks(language):
    """The blocks of the document in a language, in order, by the heading they stand under."""
    for section in re.split(r"^## ", TEXT, flags=re.M)[1:]:
        heading = section.splitlines()[0]
        for block in re.findall(rf"```{language}\n(.*?)```", section, flags=re.S):
            yield heading, block


def expected(archive):
    """The same facts without DuckDB: records by id, and how many there are with duplicates."""
    records, total = {}, 0
    for path in sorted(archive.glob("manifests/**/*.json")):
        manifest = json.loads(path.read_text())
        if manifest["schema"] != "insights-archive/manifest/1" or manifest["event"] != "all":
            continue
        for fragment in manifest["fragments"]:
            found = json.loads((archive / fragment["key"]).read_text())
            assert len(found) == fragment["records"], fragment["key"]
            total += len(found)
            records.update({record["_id"]: record for record in found})
    return records, total


def run(connection, archive):
    """The last answer of each section, from a folder in which the archive has the document's name for it."""
    # An abandoned job's file, which only a glob over data/ would read.
    named = next(archive.glob("data/**/part-*.json"))
    stray = named.parent.parent / "job=fj-stray" / named.name
    stray.parent.mkdir()
    stray.write_bytes(named.read_bytes())
    pathlib.Path("archive").symlink_to(archive)
    results = {}
    try:
        for heading, sql in blocks("sql"):
            for statement in connection.extract_statements(sql):
                results[heading] = connection.execute(statement).fetchall()
    finally:
        stray.unlink()
        stray.parent.rmdir()
    return results


def check_athena(connection):
    """Athena itself is not here: what it is told parses, and names what stands in the files."""
    [(_, block)] = blocks("athena")
    [table] = sqlglot.parse(block, read="athena")
    columns = [*table.this.expressions, *table.find(sqlglot.exp.PartitionedByProperty).this.expressions]
    told = {column.name: ATHENA[column.kind.sql("hive").lower()] for column in columns}
    files = "read_parquet('query/**/*.parquet', hive_partitioning = true)"
    found = connection.execute(f"DESCRIBE SELECT * FROM {files}").fetchall()
    assert told == {row[0]: row[1] for row in found}, (told, found)
    rows = "SELECT id, search, event, query, epoch_ms(created), app, {} FROM {} ORDER BY id"
    written = connection.execute(rows.format("record", files)).fetchall()
    assert written == connection.execute(rows.format("CAST(json AS VARCHAR)", "records")).fetchall()


def main(archive):
    records, total = expected(archive)
    assert records, f"{archive} holds no records to query"
    connection = duckdb.connect()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        results = run(connection, archive)
        check_athena(connection)
        os.chdir("/")
    for_buckets = " ".join(re.search(r"`(INSTALL[^`]*)`", TEXT)[1].split())
    assert len(connection.extract_statements(for_buckets)) == 3

    weeks = results["What there is, by week"]
    assert sum(week[3] for week in weeks if week[1] == "all") == total, weeks
    found = connection.execute("SELECT id, event, search FROM records").fetchall()
    assert {row[0] for row in found} == set(records)
    assert len(found) == len(records)
    feedback = [record for record in records.values() if record["event"] != "search"]
    searches = {record["searchRequestId"] for record in records.values() if record["event"] == "search"}
    joined = sum(record["searchRequestId"] in searches for record in feedback)
    counted = connection.execute("SELECT count(*), count(*) FILTER (found) FROM feedback").fetchone()
    assert counted == (len(feedback), joined), counted
    assert feedback and joined, "the archive holds no feedback on a search of its own"
    duplicates = results["Duplicates"]
    assert sum(times - 1 for _, times in duplicates) == total - len(records), duplicates[:3]
    print(f"{len(weeks)} weeks, {total} records, {len(feedback)} of them feedback, {joined} joined to its search")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve())
