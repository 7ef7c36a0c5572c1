--
-- Entries that wait in the backend: each event at which they must be flushed,
-- and each case in which they may not wait at all.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
\getenv abs_srcdir PG_ABS_SRCDIR
\set differential :abs_srcdir '/sql/include/differential.sql'
\set pending_utility :abs_srcdir '/sql/include/pending_utility.sql'
\set ECHO none
\i :differential
\set ECHO all
CREATE SCHEMA alex_pending;
SET search_path = alex_pending, public;

-- Has anything of a new index been flushed?  Until then it is a metapage.
CREATE FUNCTION flushed(index regclass) RETURNS bool LANGUAGE sql AS $$
	SELECT pg_relation_size(index) > current_setting('block_size')::int;
$$;

-- The number of rows that meet a condition, by way of the index and without
-- it; an error if the two differ.
CREATE FUNCTION by_index(tablename text, condition text) RETURNS bigint LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
	result bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM %s t WHERE %s', tablename, condition) INTO result;
	RETURN result;
END $$;
CREATE FUNCTION by_scan(tablename text, condition text) RETURNS bigint LANGUAGE plpgsql
SET enable_indexscan = off SET enable_indexonlyscan = off SET enable_bitmapscan = off AS $$
DECLARE
	result bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM %s t WHERE %s', tablename, condition) INTO result;
	RETURN result;
END $$;
CREATE FUNCTION see(tablename text, condition text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	through_index bigint := by_index(tablename, condition);
	without bigint := by_scan(tablename, condition);
BEGIN
	IF through_index <> without THEN
		RAISE EXCEPTION '% rows of % where % through the index, % without it',
			through_index, tablename, condition, without;
	END IF;
	RETURN without;
END $$;
-- the same with the calling query's snapshot
CREATE FUNCTION by_index_stable(tablename text, condition text) RETURNS bigint STABLE LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off AS $$
DECLARE
	result bigint;
BEGIN
	EXECUTE format('SELECT count(*) FROM %s t WHERE %s', tablename, condition) INTO result;
	RETURN result;
END $$;

-- The same questions again and again, and the verification of the index.
CREATE FUNCTION same(tablename text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	answers text;
BEGIN
	SELECT string_agg(answer, ', ') INTO answers FROM (
		SELECT see(tablename, 'true') || ' rows'
		UNION ALL
		SELECT pg_temp.compare_conditions(tablename,
			't.k = 7', 't.k < 5', 't.k >= 40', 't.k IS NULL', 't.k = ANY (''{1,7,NULL,49,1000}'')')
		UNION ALL
		SELECT pg_temp.compare('{plain,only}'::text[],
			format('SELECT t.id, t.k FROM %s t ORDER BY t.k, t.id', tablename),
			format('SELECT t.id, t.k FROM %s t ORDER BY t.k DESC, t.id LIMIT 50', tablename))) a (answer);
	PERFORM alex_check(regexp_replace(tablename, '_t$', '_alex')::regclass, true);
	RETURN answers;
END $$;

-- A new table with an alex index and nothing else.
CREATE PROCEDURE fresh_rows() LANGUAGE plpgsql SET client_min_messages = warning AS $$
BEGIN
	DROP TABLE IF EXISTS rows_t;
	CREATE TABLE rows_t (id int, k int8) WITH (autovacuum_enabled = off);
	CREATE INDEX rows_alex ON rows_t USING alex (k);
END $$;
CALL fresh_rows();

--
-- What waits, and for how long
--
BEGIN;
INSERT INTO rows_t VALUES (1, 7);
SELECT flushed('rows_alex');
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(2, 100) i;
SELECT flushed('rows_alex');
COMMIT;
SELECT flushed('rows_alex');
SELECT same('rows_t');
CALL fresh_rows();
-- rolled back: no trace
BEGIN;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1, 100) i;
ROLLBACK;
SELECT flushed('rows_alex');
SELECT same('rows_t');
-- loops, also outside of a transaction block; a single row does not wait
DO $$
BEGIN
	FOR i IN 1..100 LOOP
		INSERT INTO rows_t VALUES (i, i % 50);
	END LOOP;
	RAISE NOTICE 'flushed: %', flushed('rows_alex');
END $$;
SELECT flushed('rows_alex');
SELECT same('rows_t');
-- one of many rows does not end the waiting, nor does what looks at no index
CALL fresh_rows();
BEGIN;
INSERT INTO rows_t VALUES (1, 7), (2, 7);
PREPARE inserting AS INSERT INTO rows_t VALUES ($1, $1 % 50);
EXECUTE inserting(3);
EXPLAIN (COSTS OFF) INSERT INTO rows_t VALUES (4, 4);
SET LOCAL work_mem = '8MB';
LOCK TABLE rows_t IN SHARE UPDATE EXCLUSIVE MODE;
SET CONSTRAINTS ALL DEFERRED;
SAVEPOINT s;
NOTIFY alex_pending;
RELEASE s;
DECLARE counting CURSOR FOR SELECT count(*) FROM pg_class;
FETCH 0 FROM counting;
CLOSE counting;
SELECT count(*) FROM (SELECT id FROM rows_t WHERE id > 0) r;
SELECT flushed('rows_alex');
DEALLOCATE inserting;
COMMIT;
SELECT same('rows_t');

--
-- Flushes for want of room
--
CALL fresh_rows();
BEGIN;
SET LOCAL alexam.batch_size = 100;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1, 100) i;
SELECT flushed('rows_alex');
INSERT INTO rows_t VALUES (101, 7);
SELECT flushed('rows_alex');
-- smaller than what waits already; then larger; then nothing waits
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(102, 150) i;
SET LOCAL alexam.batch_size = 10;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(151, 200) i;
SET LOCAL alexam.batch_size = 2;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(201, 250) i;
SET LOCAL alexam.batch_size = 3;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(251, 300) i;
SET LOCAL alexam.batch_size = 1000;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(301, 350) i;
SET LOCAL alexam.batch_size = 1;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(351, 400) i;
RESET alexam.batch_size;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(401, 450) i;
SELECT same('rows_t');
COMMIT;
SELECT same('rows_t');
CALL fresh_rows();
BEGIN;
SET LOCAL alexam.batch_memory = 64;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1, 2000) i;
SELECT flushed('rows_alex');
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(2001, 10000) i;
SELECT flushed('rows_alex');
COMMIT;
SELECT same('rows_t');

--
-- Direct seals
--
CALL fresh_rows();
BEGIN;
SET LOCAL alexam.direct_seal_threshold = 100;
INSERT INTO rows_t SELECT i, nullif(i % 50, 3) FROM generate_series(1, 200) i;
SELECT part, entries FROM alex_runs('rows_alex') ORDER BY run;
INSERT INTO rows_t SELECT i, nullif(i % 50, 3) FROM generate_series(201, 299) i;
SELECT count(*) AS runs, sum(entries) AS entries FROM alex_runs('rows_alex');
-- NULLs alone, and keys alone
INSERT INTO rows_t SELECT i, NULL FROM generate_series(301, 500) i;
SELECT same('rows_t');
INSERT INTO rows_t SELECT i, 100 + i FROM generate_series(501, 700) i;
SELECT same('rows_t');
SAVEPOINT s;
INSERT INTO rows_t SELECT i, 7 FROM generate_series(701, 900) i;
SELECT same('rows_t');
ROLLBACK TO s;
SELECT same('rows_t');
INSERT INTO rows_t SELECT i, 7 FROM generate_series(901, 1100) i;
COMMIT;
SELECT part, entries FROM alex_runs('rows_alex') ORDER BY part, entries, run;
SELECT same('rows_t');
CALL fresh_rows();
SET alexam.direct_seal_threshold = 1;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1, 1) i;
SELECT part, entries FROM alex_runs('rows_alex');
DO $$
BEGIN
	FOR i IN 1..60 LOOP
		INSERT INTO rows_t VALUES (i, i % 50), (-i, NULL);
		PERFORM see('rows_t', 't.k IS NULL');
	END LOOP;
END $$;
SELECT same('rows_t');
VACUUM rows_t;
SELECT same('rows_t');
RESET alexam.direct_seal_threshold;

--
-- Scans of the transaction's own rows
--
CALL fresh_rows();
SET enable_seqscan = off;
SET enable_bitmapscan = off;
BEGIN;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1, 200) i;
SELECT flushed('rows_alex');
SELECT id, k FROM rows_t WHERE k = 7 ORDER BY id;
SELECT flushed('rows_alex');
UPDATE rows_t SET k = k + 1 WHERE k < 25;
SELECT count(*) FROM rows_t WHERE k = 7;
DELETE FROM rows_t WHERE k = 7;
SELECT count(*) FROM rows_t WHERE k = 7;
COMMIT;
SELECT same('rows_t');
-- a snapshot that cannot see what waits leaves it alone
CALL fresh_rows();
INSERT INTO rows_t VALUES (0, 7);
SELECT alex_compact('rows_alex');
BEGIN;
DECLARE early CURSOR FOR SELECT id, k FROM rows_t WHERE k = 7;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1, 150) i;
SELECT pg_relation_size('rows_alex') AS size \gset
FETCH ALL FROM early;
SELECT pg_relation_size('rows_alex') = :size AS waits;
DECLARE late CURSOR FOR SELECT id, k FROM rows_t WHERE k = 7;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(151, 300) i;
MOVE BACKWARD ALL FROM early;
FETCH ALL FROM early;
FETCH 2 FROM late;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(301, 400) i;
FETCH ALL FROM late;
COMMIT;
SELECT same('rows_t');
-- a cursor that inserts, and others that look on
CALL fresh_rows();
CREATE FUNCTION insert_row(i int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO rows_t VALUES (i, i % 50);
	RETURN i;
END $$;
BEGIN;
DECLARE inserting CURSOR FOR SELECT insert_row(i) FROM generate_series(1, 1000) i;
MOVE 60 FROM inserting;
DECLARE looking CURSOR FOR SELECT id FROM rows_t WHERE k = 7;
SAVEPOINT s;
MOVE 100 FROM inserting;
SELECT see('rows_t', 't.k = 7');
ROLLBACK TO s;
SELECT see('rows_t', 't.k = 7');
MOVE 100 FROM inserting;
SELECT see('rows_t', 't.k = 7');
FETCH ALL FROM looking;
COMMIT;
SELECT same('rows_t');
-- holdable cursors are read to the end before the entries go at commit
CALL fresh_rows();
BEGIN;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1, 100) i;
DECLARE held CURSOR WITH HOLD FOR SELECT id FROM rows_t WHERE k = 7;
DECLARE held_inserting CURSOR WITH HOLD FOR SELECT insert_row(i) FROM generate_series(101, 200) i;
COMMIT;
FETCH ALL FROM held;
MOVE ALL FROM held_inserting;
CLOSE ALL;
SELECT same('rows_t');
-- a table that feeds itself through its index
BEGIN;
INSERT INTO rows_t SELECT id + 1000, k FROM rows_t WHERE k < 25;
INSERT INTO rows_t SELECT id + 2000, k + 1 FROM rows_t WHERE k < 25;
INSERT INTO rows_t SELECT id + 3000, k + 1 FROM rows_t ORDER BY k;
SELECT see('rows_t', 't.k < 26');
COMMIT;
SELECT same('rows_t');
-- snapshots that are kept
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT see('rows_t', 't.k = 7');
INSERT INTO rows_t SELECT i, 7 FROM generate_series(10001, 10050) i;
SELECT see('rows_t', 't.k = 7');
UPDATE rows_t SET k = 8 WHERE k = 7 AND id > 10025;
SELECT see('rows_t', 't.k = 7'), see('rows_t', 't.k = 8');
COMMIT;
SELECT same('rows_t');
RESET enable_seqscan;
RESET enable_bitmapscan;

--
-- Kinds of statements
--
CALL fresh_rows();
BEGIN;
INSERT INTO rows_t SELECT i, i FROM generate_series(1, 500) i;
UPDATE rows_t SET k = (k * 7919) % 50;
SELECT same('rows_t');
UPDATE rows_t SET k = other.k FROM rows_t other WHERE other.id = rows_t.id + 1;
SELECT same('rows_t');
MERGE INTO rows_t USING generate_series(400, 600) AS s (n) ON rows_t.id = s.n
	WHEN MATCHED AND n % 3 = 0 THEN DELETE
	WHEN MATCHED THEN UPDATE SET k = 49 - k
	WHEN NOT MATCHED THEN INSERT VALUES (n, n % 50);
SELECT same('rows_t');
COPY rows_t FROM STDIN;
10001	7
10002	\N
10003	8
\.
SELECT same('rows_t');
COMMIT;
COPY rows_t FROM STDIN WHERE k < 9;
10004	7
10005	8
10006	9
\.
SELECT same('rows_t');
-- WITH: what the outer query sees, and what is done only when it has ended
BEGIN;
WITH inserted AS (INSERT INTO rows_t SELECT i, 7 FROM generate_series(20001, 20010) i RETURNING id)
	SELECT (SELECT count(*) FROM inserted) AS inserted, by_index_stable('rows_t', 't.k = 7 AND t.id > 20000') AS seen;
WITH moved AS (UPDATE rows_t SET k = 8 WHERE k = 7 AND id > 20005 RETURNING id),
	gone AS (DELETE FROM rows_t WHERE k = 7 AND id BETWEEN 20001 AND 20003)
	INSERT INTO rows_t SELECT id + 1000, 7 FROM moved;
WITH unread AS (INSERT INTO rows_t SELECT i, 7 FROM generate_series(22001, 22010) i RETURNING id)
	SELECT 1 AS one;
SELECT see('rows_t', 't.k = 7 AND t.id > 20000');
COMMIT;
SELECT same('rows_t');
-- CREATE TABLE AS and the like, whose query inserts
CALL fresh_rows();
BEGIN;
CREATE TABLE made AS SELECT insert_row(i) FROM generate_series(1, 100) i;
SELECT flushed('rows_alex');
SELECT insert_row(i) AS id INTO made_too FROM generate_series(101, 200) i;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(201, 300) i;
EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF) INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(301, 400) i;
COPY (SELECT insert_row(i) FROM generate_series(401, 403) i) TO STDOUT;
COMMIT;
DROP TABLE made, made_too;
SELECT same('rows_t');

--
-- Triggers, functions and loops that look
--
CALL fresh_rows();
CREATE TABLE other_t (id int, k int8, seen bigint);
CREATE INDEX other_alex ON other_t USING alex (k);
-- commands of its own first, so that the outer command's number is not the
-- current one any more
CREATE FUNCTION look_before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO other_t VALUES (NEW.id, NEW.k, see('rows_t', 't.k = 7'));
	UPDATE other_t SET k = k + 1 WHERE k = NEW.k;
	PERFORM see('other_t', 't.k < 10');
	INSERT INTO other_t VALUES (-NEW.id, NEW.k, see('rows_t', 't.k = 7'));
	RETURN NEW;
END $$;
CREATE FUNCTION look_after() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM see('rows_t', 't.k = 7');
	PERFORM see('other_t', 't.k < 10');
	IF TG_LEVEL = 'ROW' AND NEW.id BETWEEN 1 AND 100 THEN
		INSERT INTO rows_t VALUES (NEW.id + 10000, NEW.k);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER look_before BEFORE INSERT OR UPDATE ON rows_t FOR EACH ROW EXECUTE FUNCTION look_before();
CREATE TRIGGER look_after AFTER INSERT OR UPDATE ON rows_t FOR EACH ROW EXECUTE FUNCTION look_after();
CREATE TRIGGER look_after_all AFTER INSERT OR UPDATE ON rows_t FOR EACH STATEMENT EXECUTE FUNCTION look_after();
CREATE TRIGGER look_before_all BEFORE INSERT OR UPDATE ON rows_t FOR EACH STATEMENT EXECUTE FUNCTION look_after();
BEGIN;
INSERT INTO rows_t SELECT i, 7 FROM generate_series(1, 20) i;
SELECT min(seen), max(seen), count(DISTINCT seen) FROM other_t WHERE id BETWEEN 1 AND 20;
INSERT INTO rows_t SELECT i, 6 + i % 3 FROM generate_series(21, 40) i;
UPDATE rows_t SET k = k + 1 WHERE k BETWEEN 6 AND 7 AND id < 30;
COPY rows_t FROM STDIN;
41	7
42	7
43	7
\.
SELECT same('rows_t');
COMMIT;
COPY rows_t FROM STDIN;
44	7
45	7
\.
INSERT INTO rows_t VALUES (46, 7);
SELECT same('rows_t');
SELECT same('other_t');
-- the outer command's rows are seen by a trigger through a snapshot whose
-- number is the outer command's own only if they are older
CREATE FUNCTION look_stable() RETURNS trigger STABLE LANGUAGE plpgsql AS $$
BEGIN
	IF by_index_stable('rows_t', 't.k = 1007') <> 3 THEN
		RAISE EXCEPTION '% rows', by_index_stable('rows_t', 't.k = 1007');
	END IF;
	RETURN NEW;
END $$;
BEGIN;
INSERT INTO rows_t SELECT i, 1007 FROM generate_series(1001, 1003) i;
CREATE TRIGGER look_stable BEFORE INSERT ON rows_t FOR EACH ROW EXECUTE FUNCTION look_stable();
INSERT INTO rows_t SELECT i, 1007 FROM generate_series(2001, 2010) i;
DROP TRIGGER look_stable ON rows_t;
SELECT see('rows_t', 't.k = 1007');
COMMIT;
SELECT same('rows_t');
DROP TABLE other_t;
-- a loop that inserts and looks, with errors that it catches
CALL fresh_rows();
DO $$
BEGIN
	FOR i IN 1..300 LOOP
		BEGIN
			INSERT INTO rows_t VALUES (i, i % 10), (i, i % 10);
			IF i % 3 = 0 THEN
				PERFORM see('rows_t', 't.k = ' || i % 10);
			END IF;
			IF i % 5 = 0 THEN
				RAISE division_by_zero;
			END IF;
		EXCEPTION WHEN division_by_zero THEN
			IF i % 10 = 0 THEN
				PERFORM see('rows_t', 't.k = ' || i % 10);
			END IF;
			INSERT INTO rows_t VALUES (-i, NULL);
		END;
	END LOOP;
END $$;
SELECT same('rows_t');
-- a loop over what it changes
DO $$
DECLARE
	r record;
BEGIN
	FOR r IN SELECT id, k FROM rows_t WHERE k BETWEEN 2 AND 4 ORDER BY k LOOP
		INSERT INTO rows_t VALUES (r.id + 1000, r.k + 1);
	END LOOP;
	PERFORM see('rows_t', 't.k BETWEEN 2 AND 4');
END $$;
SELECT same('rows_t');
-- transactions inside procedures
CREATE PROCEDURE insert_in_parts() LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..100 LOOP
		INSERT INTO rows_t VALUES (20000 + i, i % 50);
		INSERT INTO rows_t SELECT 21000 + i, i % 50;
		IF i % 7 = 0 THEN
			COMMIT;
		ELSIF i % 11 = 0 THEN
			ROLLBACK;
		ELSIF i % 13 = 0 THEN
			PERFORM see('rows_t', 't.k < 50');
			COMMIT AND CHAIN;
		END IF;
	END LOOP;
END $$;
CALL insert_in_parts();
SELECT same('rows_t');
DO 'BEGIN CALL insert_in_parts(); ROLLBACK; CALL insert_in_parts(); END';
SELECT same('rows_t');

--
-- Subtransactions
--
-- Six savepoints, one inside the other, each with rows in two indexes; then
-- each is released or rolled back, in all ways, from the inside out.
CALL fresh_rows();
CREATE TABLE more_t (id int, k int8);
CREATE INDEX more_alex ON more_t USING alex (k DESC);
CREATE FUNCTION nest(depth int, choices int, flush_at int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF depth % 2 = 0 OR choices % 3 = 0 THEN
		INSERT INTO rows_t VALUES (depth, 1000 * depth + choices), (depth, depth);
	END IF;
	IF depth % 3 > 0 THEN
		INSERT INTO more_t VALUES (depth, NULL), (depth, 1000 * depth + choices);
	END IF;
	BEGIN
		IF depth < 6 THEN
			PERFORM nest(depth + 1, choices, flush_at);
		END IF;
		INSERT INTO rows_t VALUES (-depth, depth);
		INSERT INTO more_t VALUES (-depth, depth);
		IF depth = flush_at THEN
			PERFORM see('rows_t', 't.k < 50');
		END IF;
		IF choices & (1 << (depth - 1)) > 0 THEN
			RAISE division_by_zero;
		END IF;
		IF depth % 3 = 1 THEN
			INSERT INTO rows_t VALUES (-depth, NULL);
		END IF;
	EXCEPTION WHEN division_by_zero THEN
		IF depth % 3 = 2 THEN
			INSERT INTO more_t VALUES (100 + depth, depth);
		END IF;
	END;
	INSERT INTO rows_t VALUES (200 + depth, depth);
END $$;
SELECT count(nest(1, choices, choices / 7 % 8)) FROM generate_series(0, 63) AS choices;
SELECT same('rows_t');
SELECT same('more_t');
-- what a transaction block makes of them
TRUNCATE rows_t, more_t;
BEGIN;
INSERT INTO rows_t VALUES (1, 2001);
SAVEPOINT a;
INSERT INTO rows_t VALUES (2, 2002);
SAVEPOINT b;
SAVEPOINT c;
INSERT INTO rows_t VALUES (3, 2003);
RELEASE b;
INSERT INTO rows_t VALUES (4, 2004);
SAVEPOINT b;
INSERT INTO rows_t VALUES (5, 2005);
ROLLBACK TO b;
INSERT INTO rows_t VALUES (6, 2006);
ROLLBACK TO b;
INSERT INTO rows_t VALUES (7, 2007);
RELEASE b;
SAVEPOINT d;
INSERT INTO more_t VALUES (8, 2008);
SELECT see('rows_t', 't.k > 2000');
SAVEPOINT e;
INSERT INTO rows_t VALUES (9, 2009);
INSERT INTO more_t VALUES (9, 2009);
SELECT 1 / 0;
ROLLBACK TO d;
INSERT INTO rows_t VALUES (10, 2010);
SELECT k FROM rows_t WHERE k > 2000 ORDER BY k;
ROLLBACK TO a;
INSERT INTO rows_t VALUES (11, 2011);
COMMIT;
SELECT k FROM rows_t WHERE k > 2000 ORDER BY k;
SELECT same('rows_t');
SELECT same('more_t');
-- nothing is kept of subtransactions that have ended
BEGIN;
DO $$
BEGIN
	FOR i IN 1..10000 LOOP
		BEGIN
			INSERT INTO rows_t VALUES (i, 4000);
			RAISE division_by_zero;
		EXCEPTION WHEN division_by_zero THEN
			NULL;
		END;
	END LOOP;
END $$;
SELECT total_bytes < 1000000 AS little FROM pg_backend_memory_contexts WHERE name = 'alexam pending entries';
COMMIT;
-- a statement that fails half way
BEGIN;
INSERT INTO rows_t VALUES (1, 3001);
SAVEPOINT a;
INSERT INTO rows_t SELECT i, 3000 + 100 / (50 - i) FROM generate_series(1, 100) i;
ROLLBACK TO a;
INSERT INTO rows_t VALUES (2, 3002);
COMMIT;
SELECT see('rows_t', 't.k > 3000');
SELECT same('rows_t');
DROP TABLE more_t;

--
-- Constraints
--
-- foreign keys whose referencing column has an alex index and no other
CREATE TABLE parent (id int8 PRIMARY KEY);
CREATE TABLE cascading_t (id int, k int8 REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
CREATE INDEX cascading_alex ON cascading_t USING alex (k);
CREATE TABLE nulling_t (id int, k int8 REFERENCES parent ON DELETE SET NULL ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED);
CREATE INDEX nulling_alex ON nulling_t USING alex (k);
CREATE TABLE restricting_t (id int, k int8 REFERENCES parent ON DELETE RESTRICT ON UPDATE NO ACTION);
CREATE INDEX restricting_alex ON restricting_t USING alex (k);
INSERT INTO parent SELECT i FROM generate_series(0, 49) i;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
BEGIN;
INSERT INTO cascading_t SELECT i, i % 50 FROM generate_series(1, 200) i;
INSERT INTO nulling_t SELECT i, i % 50 FROM generate_series(1, 200) i;
INSERT INTO restricting_t SELECT i, i % 10 FROM generate_series(1, 200) i;
SELECT flushed('cascading_alex'), flushed('nulling_alex'), flushed('restricting_alex');
DELETE FROM parent WHERE id > 40;
SELECT see('cascading_t', 't.k > 40'), see('nulling_t', 't.k > 40'), see('nulling_t', 't.k IS NULL');
SAVEPOINT s;
DELETE FROM parent WHERE id = 7;
ROLLBACK TO s;
UPDATE parent SET id = 1040 WHERE id = 40;
INSERT INTO cascading_t VALUES (201, 1040);
DELETE FROM parent WHERE id = 1040;
SELECT see('cascading_t', 't.k = 1040'), see('nulling_t', 't.k = 1040');
COMMIT;
-- the constraints' own queries use the index
BEGIN;
INSERT INTO parent VALUES (2000);
INSERT INTO cascading_t VALUES (2000, 2000);
SELECT pg_stat_get_xact_numscans('cascading_alex'::regclass) AS scans \gset
DELETE FROM parent WHERE id = 2000;
SELECT pg_stat_get_xact_numscans('cascading_alex'::regclass) - :scans AS scans;
COMMIT;
BEGIN;
INSERT INTO nulling_t SELECT i, 39 FROM generate_series(301, 350) i;
DELETE FROM parent WHERE id = 39;
SELECT see('nulling_t', 't.k = 39');
INSERT INTO parent VALUES (39);
COMMIT;
BEGIN;
INSERT INTO restricting_t VALUES (300, 38);
DELETE FROM parent WHERE id = 38;
ROLLBACK;
DELETE FROM parent WHERE id = 38;
RESET enable_seqscan;
RESET enable_bitmapscan;
SELECT same('cascading_t');
SELECT same('nulling_t');
SELECT same('restricting_t');
DROP TABLE cascading_t, nulling_t, restricting_t, parent;

-- deferred constraint triggers look, and insert, before the last flush
CALL fresh_rows();
CREATE FUNCTION look_at_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM see('rows_t', 't.k = 7');
	IF NEW.id BETWEEN 1 AND 50 THEN
		INSERT INTO rows_t VALUES (NEW.id + 100, NEW.k), (NEW.id + 100, NULL);
	END IF;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER look_at_commit AFTER INSERT ON rows_t DEFERRABLE INITIALLY DEFERRED
	FOR EACH ROW EXECUTE FUNCTION look_at_commit();
INSERT INTO rows_t SELECT i, i % 10 FROM generate_series(1, 50) i;
SELECT same('rows_t');
BEGIN;
INSERT INTO rows_t SELECT i, i % 10 FROM generate_series(1, 50) i;
SET CONSTRAINTS ALL IMMEDIATE;
INSERT INTO rows_t SELECT i, i % 10 FROM generate_series(1, 5) i;
COMMIT;
SELECT same('rows_t');

-- ON CONFLICT: nothing waits while it runs (H16), neither its own rows nor
-- those of triggers
CALL fresh_rows();
CREATE UNIQUE INDEX rows_id ON rows_t (id);
CREATE TABLE other_t (id int, k int8);
CREATE INDEX other_alex ON other_t USING alex (k);
CREATE FUNCTION copy_row() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO other_t VALUES (NEW.id, NEW.k), (NEW.id, NULL);
	RETURN NEW;
END $$;
CREATE TRIGGER copy_row BEFORE INSERT ON rows_t FOR EACH ROW EXECUTE FUNCTION copy_row();
BEGIN;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1, 10) i;
SELECT flushed('rows_alex'), flushed('other_alex');
INSERT INTO rows_t SELECT i, 7 FROM generate_series(6, 20) i ON CONFLICT (id) DO NOTHING;
SELECT flushed('rows_alex'), flushed('other_alex');
INSERT INTO rows_t SELECT i, 8 FROM generate_series(16, 30) i ON CONFLICT (id) DO UPDATE SET k = excluded.k + rows_t.k;
INSERT INTO rows_t VALUES (31, 31);
SELECT same('rows_t');
COMMIT;
SELECT same('rows_t');
SELECT same('other_t');
CALL fresh_rows();
CREATE UNIQUE INDEX rows_id ON rows_t (id);
BEGIN;
WITH inserted AS (INSERT INTO rows_t VALUES (1, 1), (1, 2), (2, 3) ON CONFLICT DO NOTHING RETURNING id)
	SELECT count(*) FROM inserted;
SELECT flushed('rows_alex');
COMMIT;
SELECT same('rows_t');
DROP TABLE other_t;

-- exclusion constraints: entries are there at once
CREATE TABLE excluding_t (id int, k int8, CONSTRAINT excluding_alex EXCLUDE USING alex (k WITH =));
BEGIN;
INSERT INTO excluding_t VALUES (1, 1), (2, 2);
SELECT flushed('excluding_alex');
SAVEPOINT s;
INSERT INTO excluding_t VALUES (3, 3), (4, 3);
ROLLBACK TO s;
INSERT INTO excluding_t VALUES (3, 3);
COMMIT;
INSERT INTO excluding_t VALUES (5, 3);
DROP TABLE excluding_t;
CREATE TABLE deferred_t (id int, k int8,
	CONSTRAINT deferred_alex EXCLUDE USING alex (k WITH =) DEFERRABLE INITIALLY DEFERRED);
BEGIN;
INSERT INTO deferred_t VALUES (1, 1), (2, 1);
SELECT flushed('deferred_alex');
DELETE FROM deferred_t WHERE id = 2;
INSERT INTO deferred_t SELECT i, i FROM generate_series(3, 20) i;
UPDATE deferred_t SET k = k + 1;
COMMIT;
SELECT id, k FROM deferred_t WHERE k < 5 ORDER BY k;
BEGIN;
INSERT INTO deferred_t VALUES (30, 5);
COMMIT;
SELECT same('deferred_t');
DROP TABLE deferred_t;

-- SERIALIZABLE: entries are there at once (H4)
CALL fresh_rows();
BEGIN ISOLATION LEVEL SERIALIZABLE;
INSERT INTO rows_t VALUES (1, 1), (2, 2);
SELECT flushed('rows_alex');
SELECT same('rows_t');
COMMIT;
SELECT same('rows_t');

--
-- Parallel query
--
CALL fresh_rows();
CREATE TABLE asked (k int8) WITH (parallel_workers = 2);
INSERT INTO asked SELECT i FROM generate_series(0, 49) i;
ANALYZE asked;
SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SET parallel_leader_participation = off;
SET enable_hashjoin = off;
SET enable_mergejoin = off;
SET enable_material = off;
SET enable_memoize = off;
SET enable_bitmapscan = off;
SET seq_page_cost = 100;
SET random_page_cost = 0.01;
BEGIN;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1, 500) i;
SELECT flushed('rows_alex');
-- a plan with workers flushes, whether or not it uses the index
SET LOCAL force_parallel_mode = on;
SELECT count(*) FROM asked;
SET LOCAL force_parallel_mode = off;
SELECT flushed('rows_alex');
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(501, 1000) i;
EXPLAIN (COSTS OFF) SELECT count(*), sum(id) FROM asked JOIN rows_t USING (k);
SELECT count(*), sum(id) FROM asked JOIN rows_t USING (k);
DELETE FROM rows_t WHERE k = 7;
INSERT INTO rows_t SELECT i, 7 FROM generate_series(1001, 1020) i;
SELECT count(*), sum(id) FROM asked JOIN rows_t USING (k) WHERE k = 7;
SET LOCAL force_parallel_mode = on;
INSERT INTO rows_t SELECT i, 7 FROM generate_series(1021, 1040) i;
SELECT count(*), sum(id) FROM rows_t WHERE k = 7;
COMMIT;
SELECT same('rows_t');
RESET max_parallel_workers_per_gather;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
RESET parallel_leader_participation;
RESET enable_hashjoin;
RESET enable_mergejoin;
RESET enable_material;
RESET enable_memoize;
RESET seq_page_cost;
RESET random_page_cost;
RESET enable_bitmapscan;
SET max_parallel_workers_per_gather = 0;
DROP TABLE asked;

--
-- Utility commands (H6)
--
SET client_min_messages = warning;
SET allow_in_place_tablespaces = on;
CREATE TABLESPACE alex_pending_space LOCATION '';
RESET client_min_messages;
CALL fresh_rows();
\set ECHO none
\set utility 'REINDEX INDEX rows_alex;'
\echo :utility
\i :pending_utility
\set utility 'REINDEX TABLE rows_t;'
\echo :utility
\i :pending_utility
\set utility 'TRUNCATE rows_t;'
\echo :utility
\i :pending_utility
\set utility 'TRUNCATE rows_t; INSERT INTO rows_t VALUES (1, 7), (2, 7); TRUNCATE rows_t;'
\echo :utility
\i :pending_utility
\set utility 'CLUSTER rows_t USING rows_alex;'
\echo :utility
\i :pending_utility
\set utility 'ALTER TABLE rows_t ADD COLUMN more float DEFAULT random(); ALTER TABLE rows_t DROP COLUMN more;'
\echo :utility
\i :pending_utility
\set utility 'ALTER TABLE rows_t ALTER k TYPE int4; ALTER TABLE rows_t ALTER k TYPE int8;'
\echo :utility
\i :pending_utility
\set utility 'ALTER TABLE rows_t SET UNLOGGED;'
\echo :utility
\i :pending_utility
\set utility 'ALTER TABLE rows_t SET TABLESPACE alex_pending_space;'
\echo :utility
\i :pending_utility
\set utility 'ALTER INDEX rows_alex SET TABLESPACE alex_pending_space;'
\echo :utility
\i :pending_utility
\set utility 'ALTER INDEX rows_alex RENAME TO rows_2_alex; ALTER INDEX rows_2_alex RENAME TO rows_alex;'
\echo :utility
\i :pending_utility
\set utility 'CREATE INDEX rows_2_alex ON rows_t USING alex (k DESC);'
\echo :utility
\i :pending_utility
\set utility 'DROP INDEX rows_alex; CREATE INDEX rows_alex ON rows_t USING alex (k);'
\echo :utility
\i :pending_utility
\set utility 'DROP INDEX rows_alex;'
\echo :utility
\i :pending_utility
\set utility 'ANALYZE rows_t;'
\echo :utility
\i :pending_utility
\set ECHO all
DROP TABLE rows_t;
DROP TABLESPACE alex_pending_space;
-- a utility command flushes
CALL fresh_rows();
BEGIN;
INSERT INTO rows_t VALUES (1, 7), (2, 7);
COMMENT ON INDEX rows_alex IS 'flushed';
SELECT flushed('rows_alex');
COMMIT;
-- dropped with its table
BEGIN;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1, 100) i;
DROP TABLE rows_t;
COMMIT;
CALL fresh_rows();
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1, 100) i;
VACUUM FULL rows_t;
SELECT same('rows_t');
-- a new table
BEGIN;
CREATE TABLE new_t (id int, k int8);
INSERT INTO new_t VALUES (0, 7);
CREATE INDEX new_alex ON new_t USING alex (k DESC NULLS FIRST);
INSERT INTO new_t SELECT i, nullif(i % 50, 3) FROM generate_series(1, 100) i;
SAVEPOINT s;
TRUNCATE new_t;
INSERT INTO new_t SELECT i, nullif(i % 50, 3) FROM generate_series(101, 200) i;
TRUNCATE new_t;
INSERT INTO new_t SELECT i, nullif(i % 50, 3) FROM generate_series(201, 300) i;
SELECT same('new_t');
ROLLBACK TO s;
SELECT same('new_t');
INSERT INTO new_t SELECT i, nullif(i % 50, 3) FROM generate_series(301, 400) i;
COMMIT;
SELECT same('new_t');
DROP TABLE new_t;

--
-- alex_check and alex_stats in the transaction
--
CALL fresh_rows();
BEGIN;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1, 100) i;
SELECT alex_check('rows_alex', true);
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(101, 150) i;
SELECT log_entries FROM alex_stats('rows_alex');
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(151, 200) i;
SELECT alex_compact('rows_alex');
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(201, 250) i;
SELECT entries, log_entries FROM alex_stats('rows_alex');
COMMIT;
SELECT same('rows_t');

--
-- Partitions: many indexes with a few entries each, in little memory
--
CREATE TABLE parted_t (id int, k int8) PARTITION BY LIST (id);
CREATE INDEX parted_alex ON parted_t USING alex (k);
DO $$
BEGIN
	FOR i IN 0..299 LOOP
		EXECUTE format('CREATE TABLE parted_%s PARTITION OF parted_t FOR VALUES IN (%s)', i, i);
		EXECUTE format('ALTER INDEX parted_%s_k_idx RENAME TO parted_%s_alex', i, i);
	END LOOP;
END $$;
BEGIN;
SET LOCAL alexam.batch_memory = 64;
INSERT INTO parted_t SELECT i % 300, i / 300 FROM generate_series(0, 29999) i;
SELECT see('parted_t', 't.k = 7'), see('parted_t', 't.k < 5');
SAVEPOINT s;
INSERT INTO parted_t SELECT i % 300, i / 300 FROM generate_series(0, 29999) i;
ROLLBACK TO s;
UPDATE parted_t SET id = 299 - id WHERE k = 7;
SELECT see('parted_t', 't.k = 7'), see('parted_t', 't.k < 5');
COMMIT;
SELECT see('parted_t', 't.k = 7'), see('parted_t', 't.k < 5'), see('parted_t', 't.k >= 0');
SELECT count(alex_check(format('parted_%s_alex', i)::regclass, true)) FROM generate_series(0, 299) i;
-- without the limit all of it waits
BEGIN;
INSERT INTO parted_t SELECT i % 300, 1000 FROM generate_series(0, 599) i;
SELECT see('parted_t', 't.k = 1000');
COMMIT;
SELECT see('parted_t', 't.k = 1000');
DROP TABLE parted_t;

--
-- Temporary tables
--
CREATE TEMP TABLE emptied_t (id int, k int8) ON COMMIT DELETE ROWS;
CREATE INDEX emptied_alex ON emptied_t USING alex (k);
BEGIN;
INSERT INTO emptied_t SELECT i, i % 50 FROM generate_series(1, 100) i;
SELECT same('emptied_t');
INSERT INTO emptied_t SELECT i, i % 50 FROM generate_series(101, 200) i;
COMMIT;
SELECT same('emptied_t');
BEGIN;
INSERT INTO emptied_t SELECT i, i % 50 FROM generate_series(1, 100) i;
COMMIT;
BEGIN;
INSERT INTO emptied_t SELECT i, i % 50 FROM generate_series(1, 10) i;
SAVEPOINT s;
INSERT INTO emptied_t SELECT i, i % 50 FROM generate_series(11, 20) i;
ROLLBACK TO s;
SELECT same('emptied_t');
COMMIT;
CREATE TEMP TABLE dropped_t (id int, k int8) ON COMMIT DROP;
BEGIN;
CREATE TEMP TABLE dropped_t (id int, k int8) ON COMMIT DROP;
CREATE INDEX dropped_alex ON dropped_t USING alex (k);
INSERT INTO dropped_t SELECT i, i % 50 FROM generate_series(1, 100) i;
COMMIT;
SET alexam.direct_seal_threshold = 50;
CREATE TEMP TABLE kept_t (id int, k int8);
CREATE INDEX kept_alex ON kept_t USING alex (k);
BEGIN;
INSERT INTO kept_t SELECT i, i % 50 FROM generate_series(1, 1000) i;
SELECT same('kept_t');
INSERT INTO kept_t SELECT i, i % 50 FROM generate_series(1, 10) i;
COMMIT;
SELECT same('kept_t');
RESET alexam.direct_seal_threshold;

SET client_min_messages = warning;
DROP SCHEMA alex_pending CASCADE;
