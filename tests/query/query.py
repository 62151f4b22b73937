"""Runs the blocks of docs/QUERY.md on an archive, as they stand there, and checks what they say.

    python tests/query/query.py ARCHIVE

The archive holds at least two weeks of the event `all` with records, as a demo's does. The blocks run on it, and on a copy that
is made less tidy.
"""

import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
from collections import Counter

import duckdb
import sqlglot

TEXT = (pathlib.Path(__file__).resolve().parents[2] / "docs/QUERY.md").read_text()

EVENTS = ("all", "thumbsUp", "thumbsDown")

# What a column of Athena's is in DuckDB's words.
ATHENA = {"string": "VARCHAR", "date": "DATE", "timestamp": "TIMESTAMP WITH TIME ZONE"}


def blocks(language):
    """The blocks of the document in a language, in order, by the heading they stand under."""
    for section in re.split(r"^## ", TEXT, flags=re.M)[1:]:
        heading = section.splitlines()[0]
        for block in re.findall(rf"```{language}\n(.*?)```", section, flags=re.S):
            yield heading, block


def manifests(archive, events=("all",)):
    """The manifests of weeks that stand, newest week first."""
    found = [json.loads(path.read_text()) for path in archive.glob("manifests/**/*.json")]
    standing = [m for m in found if m["schema"] == "insights-archive/manifest/1" and m["event"] in events]
    return sorted(standing, key=lambda manifest: manifest["week"], reverse=True)


def expected(archive):
    """The same facts without DuckDB: each record's week and content by app and id, and how many stand in the files of each app."""
    records, totals = {}, Counter()
    for manifest in manifests(archive):
        for fragment in manifest["fragments"]:
            found = json.loads((archive / fragment["key"]).read_text())
            assert len(found) == fragment["records"], fragment["key"]
            totals[manifest["app"]] += len(found)
            for record in found:
                records.setdefault((manifest["app"], record["_id"]), (manifest["week"], record))
    return records, totals


def judged(archive):
    """Somebody whose search has feedback in the newest week, and how many records of theirs stand in which file."""
    newest = json.loads((archive / manifests(archive)[0]["fragments"][0]["key"]).read_text())
    judged = {record["searchRequestId"] for record in newest if record["event"] != "search"}
    person = next(record["userId"] for record in newest if record["_id"] in judged)
    stand = [
        (manifest["app"], manifest["event"], manifest["week"], f"archive/{fragment['key']}", record)
        for manifest in manifests(archive, EVENTS)
        for fragment in manifest["fragments"]
        for record in json.loads((archive / fragment["key"]).read_text())
    ]
    searches = {record["searchRequestId"] for *_, record in stand if record.get("userId") == person}
    return person, Counter(tuple(place) for *place, record in stand if record["searchRequestId"] in searches)


def put(archive, manifest, app, event, files):
    """Writes files of records and the manifest that names them, after the pattern of another of the same week."""
    export = f"app={app}/event={event}/week={manifest['week']}"
    fragments = []
    for number, records in enumerate(files, 1):
        key = f"data/{export}/job={manifest['job']['id']}/part-{number:05}-of-{len(files):05}.json"
        (archive / key).parent.mkdir(parents=True, exist_ok=True)
        (archive / key).write_text(json.dumps(records))
        fragments.append({"key": key, "records": len(records), "bytes": (archive / key).stat().st_size, "sha256": ""})
    archived = {name: sum(f[name] for f in fragments) for name in ("records", "bytes")}
    path = archive / f"manifests/{export}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    changed = {"app": app, "event": event, "fragments": fragments, "archived": {"files": len(files), **archived}}
    path.write_text(json.dumps(manifest | changed))


def untidy(archive, folder):
    """Makes an archive of what a demo's lacks. No search names its app, as the vendor documents it; another app has the first
    file of each week; and the latest week has, first, a search of the week before once more, as it is by then, and feedback on it,
    which stands as an export of its own too."""
    later, earlier = manifests(archive)[:2]
    files = {
        manifest["week"]: [json.loads((archive / f["key"]).read_text()) for f in manifest["fragments"]]
        for manifest in (later, earlier)
    }
    for record in (record for week in files.values() for file in week for record in file):
        if record["event"] == "search":
            record.pop("botId", None)
    search = next(record for record in files[earlier["week"]][0] if record["event"] == "search")
    feedback = {"_id": "late", "searchRequestId": search["_id"], "event": "thumbsDown", "query": search["query"]}
    files[later["week"]][0][:0] = [search | {"query": "asked again"}, feedback]
    put(folder, later, later["app"], "thumbsDown", [[feedback]])
    for manifest in (later, earlier):
        put(folder, manifest, manifest["app"], "all", files[manifest["week"]])
        put(folder, manifest, "4711", "all", files[manifest["week"]][:1])
    return folder


def erase(archive, app):
    """Takes an app's weeks out, as `insights-archive erase` does."""
    for manifest in manifests(archive):
        if manifest["app"] == app:
            export = f"app={app}/event=all/week={manifest['week']}"
            shutil.rmtree(archive / "data" / export)
            note = {"schema": "insights-archive/erased/1", "app": app, "event": "all", "week": manifest["week"]}
            (archive / f"manifests/{export}.json").write_text(json.dumps(note))


def filled(heading, sql, values):
    """A block with the values that its section tells the reader to put in."""
    for name, value in values.get(heading, {}).items():
        sql, once = re.subn(rf"^(SET VARIABLE {name} = [^']*)'[^']*'", rf"\1'{value}'", sql, flags=re.M)
        assert once == 1, (heading, name)
    return sql


def run(connection, archive, values):
    """The last answer of each section, from a folder in which the archive has the document's name for it."""
    # An abandoned job's file, which only a glob over data/ would read.
    named = next(archive.glob("data/**/part-*.json"))
    stray = named.parent.parent / "job=fj-stray" / named.name
    stray.parent.mkdir()
    stray.write_bytes(named.read_bytes())
    results = {}
    try:
        for heading, sql in blocks("sql"):
            for statement in connection.extract_statements(filled(heading, sql, values)):
                results[heading] = connection.execute(statement).fetchall()
    finally:
        stray.unlink()
        stray.parent.rmdir()
    return results


def check_athena(connection, records):
    """Athena itself is not here: what it is told parses, and names what stands in the files and where."""
    [(_, block)] = blocks("athena")
    create, repair = re.split(r";\s*", block.strip().removesuffix(";"))
    table = sqlglot.parse_one(create, read="athena")
    # sqlglot takes anything after MSCK REPAIR.
    assert repair == f"MSCK REPAIR TABLE {table.this.this.name}"
    partitions = table.find(sqlglot.exp.PartitionedByProperty).this.expressions
    told = {column.name: ATHENA[column.kind.sql("hive").lower()] for column in [*table.this.expressions, *partitions]}
    files = "read_parquet('query/**/*.parquet', hive_partitioning = true)"
    found = connection.execute(f"DESCRIBE SELECT * FROM {files}").fetchall()
    assert told == {row[0]: row[1] for row in found}, (told, found)
    rows = "SELECT id, search, event, query, epoch_ms(created), app, week, {} FROM {} ORDER BY app, id"
    written = connection.execute(rows.format("record", files)).fetchall()
    assert written == connection.execute(rows.format("CAST(json AS VARCHAR)", "records")).fetchall()
    # It finds folders that are named after the partitions, in their order.
    assert [column.name for column in partitions] == ["app", "week"]
    folders = {str(path.parent) for path in pathlib.Path().glob("query/**/*.parquet")}
    assert folders == {f"query/app={app}/week={week}" for (app, _), (week, _) in records.items()}, folders


def check(archive, spelled):
    records, totals = expected(archive)
    assert records, f"{archive} holds no records to query"
    connection = duckdb.connect()
    person, theirs = judged(archive)
    values = {"The files": {"archive": spelled}, "Which weeks hold a person": {"person": person}}
    results = run(connection, archive, values)
    # A folder forgives two slashes, a bucket does not.
    location, files = connection.execute("SELECT getvariable('archive'), getvariable('files')").fetchone()
    assert location == "archive"
    assert set(files) == {f"archive/{f['key']}" for manifest in manifests(archive) for f in manifest["fragments"]}
    check_athena(connection, records)

    weeks = results["What there is, by week"]
    assert len(weeks) == len(manifests(archive, EVENTS)), weeks
    of_all = [week for week in weeks if week[1] == "all"]
    assert {app: sum(week[3] for week in of_all if week[0] == app) for app in totals} == totals, weeks
    found = connection.execute("SELECT app, id, CAST(week AS VARCHAR), event, search, query FROM records").fetchall()
    assert len(found) == len(records)
    assert {(app, id): facts for app, id, *facts in found} == {
        key: [week, record["event"], record["searchRequestId"], record["query"]] for key, (week, record) in records.items()
    }
    feedback = [(app, record) for (app, _), (_, record) in records.items() if record["event"] != "search"]
    joined = sum((app, record["searchRequestId"]) in records for app, record in feedback)
    counted = connection.execute("SELECT count(*), count(*) FILTER (found) FROM feedback").fetchone()
    assert counted == (len(feedback), joined), counted
    assert feedback and joined, "the archive holds no feedback on a search of its own"
    listed = results["Which weeks hold a person"]
    assert [(app, event, str(week), *rest) for app, event, week, *rest in listed] == sorted(
        (*place, records) for place, records in theirs.items()
    )
    duplicates = results["Duplicates"]
    assert sum(times - 1 for _, _, times in duplicates) == totals.total() - len(records), duplicates[:3]
    print(
        f"{len(weeks)} weeks of {len(totals)} apps, {totals.total()} records, {totals.total() - len(records)} of them again, "
        f"{len(feedback)} feedback, {joined} joined to its search; {theirs.total()} of a person in {len(theirs)} files"
    )


def main(archive):
    for_buckets = " ".join(re.search(r"`(INSTALL[^`]*)`", TEXT)[1].split())
    assert len(duckdb.extract_statements(for_buckets)) == 3
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        copy = untidy(archive, folder / "copy")
        for name, there, spelled in (("as given", archive, "archive"), ("less tidy", copy, "archive/")):
            (folder / name).mkdir()
            os.chdir(folder / name)
            pathlib.Path("archive").symlink_to(there)
            check(there, spelled)
        # Once more over the Parquet files of before, which hold what is erased now.
        erase(copy, "4711")
        check(copy, "archive/")
        os.chdir("/")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve())
