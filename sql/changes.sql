--
-- Everything that changes a table or its index.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
\getenv abs_srcdir PG_ABS_SRCDIR
\set differential :abs_srcdir '/sql/include/differential.sql'
\set ECHO none
\i :differential
\set ECHO all
CREATE SCHEMA alex_changes;
SET search_path = alex_changes, public;
-- the log is sealed into a run now and then
SET alexam.memtable_entries = 300;

-- The same questions again and again: each kind of condition, in each way.
CREATE FUNCTION compare(tablename text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT pg_temp.compare_conditions(tablename,
		't.k = 77', 't.k < 20', 't.k >= 480', 't.k BETWEEN 200 AND 210', 't.k IS NULL',
		't.k = ANY (''{1,77,NULL,499,1000}'')')
	UNION ALL
	SELECT pg_temp.compare('{plain,only}'::text[],
		format('SELECT t.id, t.k FROM %s t ORDER BY t.k, t.id', tablename),
		format('SELECT t.id, t.k FROM %s t ORDER BY t.k DESC, t.id LIMIT 50', tablename));
$$;

--
-- INSERT, UPDATE, DELETE, VACUUM
--
CREATE TABLE plain (id int, k int8, note text) WITH (fillfactor = 50, autovacuum_enabled = off);
CREATE INDEX plain_alex ON plain USING alex (k);
SELECT compare('plain');
INSERT INTO plain VALUES (0, 77);
SELECT compare('plain');
INSERT INTO plain SELECT i, CASE WHEN i % 40 > 0 THEN (i * 7919) % 500 END FROM generate_series(1, 2000) i;
ANALYZE plain;
SELECT compare('plain');
-- the index is left alone by updates of other columns
UPDATE plain SET note = 'hot' WHERE id % 3 = 0;
SELECT compare('plain');
UPDATE plain SET k = k + 1 WHERE id % 5 = 0;
UPDATE plain SET k = k WHERE id % 5 = 1;
UPDATE plain SET k = NULL WHERE id % 50 = 0;
UPDATE plain SET k = 77 WHERE k IS NULL AND id % 3 = 0;
SELECT compare('plain');
DELETE FROM plain WHERE k BETWEEN 190 AND 205;
DELETE FROM plain WHERE id % 4 = 0;
SELECT compare('plain');
VACUUM plain;
SELECT compare('plain');
-- old places, new tuples
INSERT INTO plain SELECT i, (i * 31) % 500 FROM generate_series(3000, 4000) i;
SELECT compare('plain');
VACUUM (ANALYZE) plain;
SELECT compare('plain');
SELECT alex_check('plain_alex', true);
DELETE FROM plain;
SELECT compare('plain');
VACUUM plain;
SELECT compare('plain');
INSERT INTO plain SELECT i, (i * 31) % 500 FROM generate_series(1, 1000) i;
SELECT compare('plain');
SELECT alex_check('plain_alex', true);
VACUUM (FULL) plain;
SELECT compare('plain');
VACUUM (INDEX_CLEANUP off) plain;
SELECT compare('plain');
SELECT alex_compact('plain_alex');
SELECT compare('plain');
SELECT alex_check('plain_alex', true);

--
-- Transactions that roll back, wholly and in part
--
BEGIN;
INSERT INTO plain SELECT i, i % 500 FROM generate_series(5000, 5500) i;
UPDATE plain SET k = k + 7 WHERE id < 300;
SELECT compare('plain');
ROLLBACK;
SELECT compare('plain');
BEGIN;
INSERT INTO plain SELECT i, i % 500 FROM generate_series(6000, 6200) i;
SAVEPOINT one;
INSERT INTO plain SELECT i, i % 500 FROM generate_series(7000, 7200) i;
SAVEPOINT two;
UPDATE plain SET k = 499 - k WHERE id BETWEEN 6000 AND 7100;
SELECT compare('plain');
ROLLBACK TO two;
SELECT compare('plain');
DELETE FROM plain WHERE id < 100;
ROLLBACK TO one;
INSERT INTO plain SELECT i, 77 FROM generate_series(8000, 8020) i;
SAVEPOINT three;
INSERT INTO plain SELECT i, 77 FROM generate_series(8100, 8120) i;
RELEASE three;
SELECT compare('plain');
COMMIT;
SELECT compare('plain');
SELECT count(*) FROM plain WHERE k = 77 AND id >= 5000;
-- errors caught in a procedure, as a loop of subtransactions
DO $$
BEGIN
	FOR i IN 1..60 LOOP
		BEGIN
			INSERT INTO plain VALUES (10000 + i, i);
			IF i % 3 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			INSERT INTO plain VALUES (20000 + i, i);
		END;
	END LOOP;
END $$;
SELECT compare('plain');
VACUUM plain;
SELECT compare('plain');
-- a statement that fails half way
INSERT INTO plain SELECT i, 100 / (50 - i) FROM generate_series(1, 100) i;
SELECT compare('plain');
-- rows that the same transaction inserts and looks for
BEGIN;
INSERT INTO plain VALUES (30000, 1000);
SELECT compare('plain');
UPDATE plain SET k = 1001 WHERE k = 1000;
UPDATE plain SET k = 1000 WHERE k = 1001;
DELETE FROM plain WHERE k = 1000;
INSERT INTO plain VALUES (30001, 1000), (30002, 1000);
SELECT compare('plain');
COMMIT;
SELECT id, k FROM plain WHERE k = 1000 ORDER BY id;

--
-- Index builds and rebuilds
--
CREATE INDEX CONCURRENTLY plain_again_alex ON plain USING alex (k);
DROP INDEX plain_alex;
SELECT compare('plain');
REINDEX INDEX plain_again_alex;
SELECT compare('plain');
REINDEX INDEX CONCURRENTLY plain_again_alex;
SELECT compare('plain');
INSERT INTO plain SELECT i, i % 500 FROM generate_series(40000, 40200) i;
REINDEX TABLE CONCURRENTLY plain;
SELECT compare('plain');
SELECT indexrelid::regclass, indisvalid FROM pg_index WHERE indrelid = 'plain'::regclass;
-- a rebuild in the transaction of the inserts, kept and rolled back
BEGIN;
INSERT INTO plain SELECT i, i % 500 FROM generate_series(41000, 41200) i;
REINDEX TABLE plain;
INSERT INTO plain SELECT i, i % 500 FROM generate_series(42000, 42200) i;
SELECT compare('plain');
COMMIT;
SELECT compare('plain');
BEGIN;
INSERT INTO plain SELECT i, i % 500 FROM generate_series(43000, 43200) i;
SAVEPOINT rebuilt;
REINDEX TABLE plain;
INSERT INTO plain SELECT i, i % 500 FROM generate_series(44000, 44200) i;
ROLLBACK TO rebuilt;
SELECT compare('plain');
INSERT INTO plain SELECT i, i % 500 FROM generate_series(45000, 45200) i;
COMMIT;
SELECT compare('plain');
-- dropped and made again in one transaction
BEGIN;
DROP INDEX plain_again_alex;
INSERT INTO plain SELECT i, i % 500 FROM generate_series(46000, 46100) i;
CREATE INDEX plain_alex ON plain USING alex (k);
INSERT INTO plain SELECT i, i % 500 FROM generate_series(47000, 47100) i;
SELECT compare('plain');
COMMIT;
SELECT compare('plain');
-- memory for the sort that is too small for it
SET maintenance_work_mem = '1MB';
CREATE TABLE large (id int, k int8);
INSERT INTO large SELECT i, (i::int8 * 7919) % 100003 FROM generate_series(1, 150000) i;
CREATE INDEX large_alex ON large USING alex (k);
ANALYZE large;
SELECT pg_temp.compare_conditions('large', 't.k = 7', 't.k < 100', 't.k >= 99999', 't.k BETWEEN 5000 AND 6000', 't.k = ANY (''{1,2,3}'')');
SELECT pg_temp.compare('{plain,only}'::text[], 'SELECT t.id, t.k FROM large t ORDER BY t.k DESC, t.id LIMIT 1000');
SELECT alex_check('large_alex', true);
RESET maintenance_work_mem;
DROP TABLE large;

--
-- CLUSTER
--
CLUSTER plain USING plain_alex;
SELECT compare('plain');
SELECT count(*) AS descents FROM (SELECT k < lag(k) OVER (ORDER BY ctid) AS descends FROM plain) p WHERE descends;
INSERT INTO plain SELECT i, i % 500 FROM generate_series(48000, 48100) i;
CLUSTER plain;
SELECT compare('plain');

--
-- TRUNCATE
--
BEGIN;
INSERT INTO plain VALUES (1, 77);
TRUNCATE plain;
SELECT compare('plain');
INSERT INTO plain SELECT i, i % 500 FROM generate_series(1, 600) i;
SELECT compare('plain');
ROLLBACK;
SELECT compare('plain');
TRUNCATE plain;
SELECT compare('plain');
INSERT INTO plain SELECT i, i % 500 FROM generate_series(1, 600) i;
SELECT compare('plain');
-- of a table that is new in this transaction
BEGIN;
CREATE TABLE fresh (id int, k int8);
CREATE INDEX fresh_alex ON fresh USING alex (k);
INSERT INTO fresh SELECT i, i % 500 FROM generate_series(1, 600) i;
TRUNCATE fresh;
SELECT compare('fresh');
INSERT INTO fresh SELECT i, i % 500 FROM generate_series(1, 300) i;
SAVEPOINT filled;
TRUNCATE fresh;
INSERT INTO fresh VALUES (1, 77);
SELECT compare('fresh');
ROLLBACK TO filled;
SELECT compare('fresh');
COMMIT;
SELECT compare('fresh');
DROP TABLE fresh;

--
-- ALTER TABLE
--
ALTER TABLE plain ALTER k TYPE int4;
SELECT compare('plain');
ALTER TABLE plain ALTER k TYPE numeric;
ALTER TABLE plain ADD COLUMN later int DEFAULT 5, DROP COLUMN note;
INSERT INTO plain SELECT i, i % 500 FROM generate_series(700, 800) i;
SELECT compare('plain');
ALTER TABLE plain RENAME k TO key;
ALTER TABLE plain RENAME key TO k;
ALTER INDEX plain_alex RENAME TO plain_renamed_alex;
SELECT compare('plain');
ALTER TABLE plain SET UNLOGGED;
SELECT compare('plain');
INSERT INTO plain SELECT i, i % 500 FROM generate_series(801, 900) i;
ALTER TABLE plain SET LOGGED;
SELECT compare('plain');

--
-- Tablespaces
--
SET client_min_messages = warning;
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE alex_changes_space LOCATION '';
RESET client_min_messages;
ALTER INDEX plain_renamed_alex SET TABLESPACE alex_changes_space;
SELECT compare('plain');
INSERT INTO plain SELECT i, i % 500 FROM generate_series(901, 1000) i;
BEGIN;
INSERT INTO plain SELECT i, i % 500 FROM generate_series(1001, 1100) i;
ALTER INDEX plain_renamed_alex SET TABLESPACE pg_default;
INSERT INTO plain SELECT i, i % 500 FROM generate_series(1101, 1200) i;
SELECT compare('plain');
ROLLBACK;
SELECT compare('plain');
REINDEX (TABLESPACE pg_default) INDEX plain_renamed_alex;
SELECT compare('plain');
CREATE INDEX plain_space_alex ON plain USING alex (k DESC) TABLESPACE alex_changes_space;
DROP INDEX plain_renamed_alex;
SELECT compare('plain');
DROP TABLE plain;
DROP TABLESPACE alex_changes_space;

--
-- Unlogged and temporary tables
--
CREATE UNLOGGED TABLE unlogged (id int, k int8);
CREATE INDEX unlogged_alex ON unlogged USING alex (k);
INSERT INTO unlogged SELECT i, i % 500 FROM generate_series(1, 2000) i;
DELETE FROM unlogged WHERE id % 3 = 0;
VACUUM ANALYZE unlogged;
INSERT INTO unlogged SELECT i, i % 500 FROM generate_series(2001, 2500) i;
SELECT compare('unlogged');
SELECT alex_check('unlogged_alex', true);
REINDEX TABLE unlogged;
SELECT compare('unlogged');
DROP TABLE unlogged;

CREATE TEMP TABLE temporary (id int, k int8);
INSERT INTO temporary SELECT i, i % 500 FROM generate_series(1, 2000) i;
CREATE INDEX temporary_alex ON temporary USING alex (k);
INSERT INTO temporary SELECT i, i % 500 FROM generate_series(2001, 2500) i;
SELECT compare('temporary');
DELETE FROM temporary WHERE id % 3 = 0;
VACUUM ANALYZE temporary;
INSERT INTO temporary SELECT i, i % 500 FROM generate_series(2501, 3000) i;
SELECT compare('temporary');
SELECT alex_check('temporary_alex', true);
REINDEX TABLE temporary;
SELECT compare('temporary');
TRUNCATE temporary;
INSERT INTO temporary VALUES (1, 77);
SELECT compare('temporary');
DROP TABLE temporary;

CREATE TEMP TABLE emptied (id int, k int8) ON COMMIT DELETE ROWS;
CREATE INDEX emptied_alex ON emptied USING alex (k);
BEGIN;
INSERT INTO emptied SELECT i, i % 500 FROM generate_series(1, 600) i;
SELECT compare('emptied');
COMMIT;
SELECT compare('emptied');
BEGIN;
INSERT INTO emptied VALUES (1, 77);
SELECT compare('emptied');
SAVEPOINT one;
INSERT INTO emptied VALUES (2, 77);
ROLLBACK TO one;
SELECT compare('emptied');
ROLLBACK;
SELECT compare('emptied');
BEGIN;
CREATE TEMP TABLE dropped (id int, k int8) ON COMMIT DROP;
CREATE INDEX dropped_alex ON dropped USING alex (k);
INSERT INTO dropped SELECT i, i % 500 FROM generate_series(1, 600) i;
SELECT compare('dropped');
COMMIT;

--
-- Partitioned tables
--
CREATE TABLE parted (id int, k int8) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000);
CREATE INDEX parted_alex ON parted USING alex (k);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (1000) TO (2000);
ALTER INDEX parted_1_k_idx RENAME TO parted_1_alex;
ALTER INDEX parted_2_k_idx RENAME TO parted_2_alex;
INSERT INTO parted SELECT i, CASE WHEN i % 40 > 0 THEN (i * 7919) % 500 END FROM generate_series(0, 1999) i;
ANALYZE parted;
SELECT compare('parted');
-- rows that move to another partition
UPDATE parted SET id = 1999 - id WHERE id % 10 = 0;
SELECT compare('parted');
CREATE TABLE parted_3 (id int, k int8);
INSERT INTO parted_3 SELECT i, i % 500 FROM generate_series(2000, 2500) i;
CREATE INDEX parted_3_alex ON parted_3 USING alex (k);
ALTER TABLE parted ATTACH PARTITION parted_3 FOR VALUES FROM (2000) TO (3000);
SELECT compare('parted');
ALTER TABLE parted DETACH PARTITION parted_1;
SELECT compare('parted');
SELECT compare('parted_1');
DROP TABLE parted, parted_1;

--
-- An exclusion constraint of equality, which is uniqueness by another name
--
CREATE TABLE excluding (id int, k int8, EXCLUDE USING alex (k WITH =));
INSERT INTO excluding SELECT i, i FROM generate_series(1, 100) i;
INSERT INTO excluding VALUES (200, 50);
BEGIN;
DELETE FROM excluding WHERE k = 50;
INSERT INTO excluding VALUES (200, 50);
COMMIT;
INSERT INTO excluding VALUES (201, NULL), (202, NULL);
INSERT INTO excluding VALUES (300, 300), (301, 300);
INSERT INTO excluding VALUES (302, 7) ON CONFLICT DO NOTHING;
INSERT INTO excluding VALUES (303, 303), (304, 303) ON CONFLICT DO NOTHING;
SELECT id, k FROM excluding WHERE id > 100 ORDER BY id;

SET client_min_messages = warning;
DROP SCHEMA alex_changes CASCADE;
