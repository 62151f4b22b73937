"""Runs the blocks of docs/QUERY.md on an archive, as they stand there, and checks what they say.

    python tests/query/query.py ARCHIVE

The archive holds at least one week of the event `all` with records, as a demo's does.
"""

import json
import pathlib
import re
import sys

import duckdb

ROOT = pathlib.Path(__file__).resolve().parents[2]


def blocks():
    """The SQL of the document, in order, by the heading it stands under."""
    text = (ROOT / "docs/QUERY.md").read_text()
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        heading = section.splitlines()[0]
        for sql in re.findall(r"```sql\n(.*?)```", section, flags=re.S):
            yield heading, sql


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


def main(archive):
    records, total = expected(archive)
    assert records, f"{archive} holds no records to query"
    # An abandoned job's file, which only a glob over data/ would read.
    named = next(archive.glob("data/**/part-*.json"))
    stray = named.parent.parent / "job=fj-stray" / named.name
    stray.parent.mkdir()
    stray.write_bytes(named.read_bytes())

    connection = duckdb.connect()
    results = {}
    try:
        for heading, sql in blocks():
            sql = sql.replace("archive = 'archive'", f"archive = '{archive}'")
            for statement in connection.extract_statements(sql):
                results[heading] = connection.execute(statement).fetchall()
    finally:
        stray.unlink()
        stray.parent.rmdir()

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
