"""The file of stored inputs: what is known of each entity now.

``<home>/<forecast>/entities.db`` is a SQLite file of two tables: ``entity`` (id, as_of, values as a JSON
array) and ``field`` (place, name). Training writes it beside and renames it whenever the features are
computed, so a lookup sees one state of all entities, the old one or the new one.
"""

ENTITIES = "entities.db"

SCHEMA = """
create table field (place integer primary key, name text not null);
create table entity (id text primary key, as_of text not null, "values" blob not null) without rowid;
"""
