package catalog

import "wheelhouse/internal/sqldb"

// schema is the catalog's tables. Times are Unix seconds: HTTP knows no finer ones. Names are BLOBs: any bytes, in byte
// order. Ids of objects come from leased blocks; those of buckets, accounts, clusters and storages are never used again
// (AUTOINCREMENT). Booleans and sets are integers of bits.
//
// There are no foreign keys: what they would check is checked where a better error can be given, and they cost lookups on
// the one table where it matters.
var schema = sqldb.Schema{Name: "catalog", Steps: []string{schema1, schemaOperation, schemaHealth, schemaBlank, schemaProcess, schemaUncounted}}

const schema1 = `
-- Small numbers that must survive: next_object_id, topology (its version), missing (rows of that table), backup_due (backup.go).
CREATE TABLE counter(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counter VALUES ('next_object_id', 1), ('topology', 1), ('missing', 0);

-- gen grows with each change of the row, so that caches can tell.
CREATE TABLE bucket(
	id INTEGER PRIMARY KEY AUTOINCREMENT, name BLOB NOT NULL UNIQUE, access INTEGER NOT NULL, class TEXT NOT NULL,
	cache_control TEXT NOT NULL, owner INTEGER NOT NULL, created INTEGER NOT NULL, gen INTEGER NOT NULL);
CREATE INDEX bucket_owner ON bucket(owner);

-- Buckets out of view whose objects are not all taken out yet.
CREATE TABLE deleted_bucket(
	id INTEGER PRIMARY KEY, name BLOB NOT NULL, access INTEGER NOT NULL, class TEXT NOT NULL,
	cache_control TEXT NOT NULL, owner INTEGER NOT NULL, created INTEGER NOT NULL, deleted_at INTEGER NOT NULL);

-- Content types by number. 0 and 1 take no space in a row.
CREATE TABLE content_type(id INTEGER PRIMARY KEY, value TEXT NOT NULL UNIQUE);
INSERT INTO content_type VALUES (0, ''), (1, 'application/octet-stream');

-- The visible version of each object. status: bit 0 = has rows in missing. meta: row.go.
CREATE TABLE object(
	bucket_id INTEGER NOT NULL, name BLOB NOT NULL, id INTEGER NOT NULL, cluster_id INTEGER NOT NULL,
	size INTEGER NOT NULL, etag BLOB NOT NULL, content_type INTEGER NOT NULL, created INTEGER NOT NULL,
	status INTEGER NOT NULL, replicas INTEGER NOT NULL, cache_control TEXT, meta BLOB,
	PRIMARY KEY(bucket_id, name)) WITHOUT ROWID;
CREATE UNIQUE INDEX object_id ON object(id);

-- Entities owed: storages of the object's cluster that do not hold it yet.
CREATE TABLE missing(
	object_id INTEGER NOT NULL, storage_id INTEGER NOT NULL, since INTEGER NOT NULL,
	PRIMARY KEY(object_id, storage_id)) WITHOUT ROWID;
CREATE INDEX missing_storage ON missing(storage_id, object_id);

-- Versions out of view whose entities are not all deleted yet.
CREATE TABLE deleted_object(
	id INTEGER PRIMARY KEY, bucket_id INTEGER NOT NULL, name BLOB NOT NULL, cluster_id INTEGER NOT NULL,
	size INTEGER NOT NULL, etag BLOB NOT NULL, content_type INTEGER NOT NULL, created INTEGER NOT NULL,
	status INTEGER NOT NULL, replicas INTEGER NOT NULL, cache_control TEXT, meta BLOB, deleted_at INTEGER NOT NULL);

-- What each cluster holds: visible objects, their bytes, and deleted objects. Written once per transaction.
CREATE TABLE total(cluster_id INTEGER PRIMARY KEY, objects INTEGER NOT NULL, bytes INTEGER NOT NULL, deleted INTEGER NOT NULL);

-- Blocks of object ids given to processes. seen: leased or last renewed. closed: no commit with an id of it any more.
CREATE TABLE id_lease(
	first INTEGER PRIMARY KEY, n INTEGER NOT NULL, owner TEXT NOT NULL, seen INTEGER NOT NULL, closed INTEGER NOT NULL);

CREATE TABLE cluster(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, mode INTEGER NOT NULL);
CREATE TABLE storage(
	id INTEGER PRIMARY KEY AUTOINCREMENT, cluster_id INTEGER NOT NULL, uri TEXT NOT NULL UNIQUE, mode INTEGER NOT NULL,
	capacity INTEGER NOT NULL, used INTEGER NOT NULL, created INTEGER NOT NULL);
-- clusters: ids with commas between them; '' is all.
CREATE TABLE class(name TEXT PRIMARY KEY, clusters TEXT NOT NULL, min_durable INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE account(
	id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, role INTEGER NOT NULL, created INTEGER NOT NULL);
CREATE TABLE access_key(
	id TEXT PRIMARY KEY, secret TEXT NOT NULL, account_id INTEGER NOT NULL, created INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX access_key_account ON access_key(account_id);

CREATE TABLE config(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
`

const schemaOperation = `
-- Long work. Times are Unix milliseconds, 0 for none: leases are short. progress is JSON, cursor and options are the kind's own.
CREATE TABLE operation(
	id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, storage_id INTEGER NOT NULL, cluster_id INTEGER NOT NULL,
	bucket TEXT NOT NULL, options BLOB NOT NULL, state TEXT NOT NULL, cursor BLOB NOT NULL, progress TEXT NOT NULL,
	priority INTEGER NOT NULL, created INTEGER NOT NULL, started INTEGER NOT NULL, updated INTEGER NOT NULL,
	ended INTEGER NOT NULL, owner TEXT NOT NULL, leased INTEGER NOT NULL, error TEXT NOT NULL);
CREATE UNIQUE INDEX operation_open ON operation(kind, storage_id, cluster_id, bucket) WHERE ended=0;
CREATE INDEX operation_ended ON operation(ended, id);

-- What the storages of a cluster hold if all is well, in blocks of ids (store.DigestBlock): objects, visible or deleted and
-- not yet forgotten, their bytes, and the exclusive or of store.SizeHash. Written once per transaction. Counter id_digest is
-- 0 until it has been filled from the tables that were there before.
CREATE TABLE id_digest(
	cluster_id INTEGER NOT NULL, block INTEGER NOT NULL, objects INTEGER NOT NULL, bytes INTEGER NOT NULL, hash INTEGER NOT NULL,
	PRIMARY KEY(cluster_id, block)) WITHOUT ROWID;
INSERT INTO counter VALUES ('id_digest', 0);
`

// schemaHealth adds what parts of the installation report of storages. storage.mode is what is set, by operators or (by_system)
// when a storage was down for too long; down_since <> 0 while it is reported failing. health holds one row per reporter and
// storage, for as long as it counts.
const schemaHealth = `
ALTER TABLE storage ADD COLUMN by_system INTEGER NOT NULL DEFAULT 0;
ALTER TABLE storage ADD COLUMN down_since INTEGER NOT NULL DEFAULT 0;
ALTER TABLE storage ADD COLUMN down_reason TEXT NOT NULL DEFAULT '';
CREATE TABLE health(
	storage_id INTEGER NOT NULL, reporter TEXT NOT NULL, ok INTEGER NOT NULL, reason TEXT NOT NULL, seen INTEGER NOT NULL,
	PRIMARY KEY(storage_id, reporter)) WITHOUT ROWID;
`

// schemaBlank adds the version of the topology with which a storage was last begun to be filled; 0: it never was.
const schemaBlank = `
ALTER TABLE storage ADD COLUMN blank INTEGER NOT NULL DEFAULT 0;
`

// schemaUncounted adds when a storage that is down was last judged, and how much of the time since then does not count: nobody watched,
// or the clock jumped.
const schemaUncounted = `
ALTER TABLE storage ADD COLUMN down_seen INTEGER NOT NULL DEFAULT 0;
ALTER TABLE storage ADD COLUMN down_uncounted INTEGER NOT NULL DEFAULT 0;
`
