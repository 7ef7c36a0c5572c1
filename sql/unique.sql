--
-- Unique indexes.  Two tables of equal contents, one with alex indexes and one
-- with btree indexes, get the same statements; every outcome must be the same,
-- error texts included.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
CREATE SCHEMA alex_unique;
SET search_path = alex_unique, public;
SET alexam.memtable_entries = 100;
-- the warning that CREATE UNIQUE INDEX raises is shown once, below
SET client_min_messages = error;

-- Runs a statement for table "alex" and table "btree", written $ in it.
CREATE FUNCTION attempt(statement text, kind text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	affected int;
	state text; message text; detail text; hint text; name text;
BEGIN
	EXECUTE replace(statement, '$', kind);
	GET DIAGNOSTICS affected = ROW_COUNT;
	RETURN affected || ' rows';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
		detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT, name = CONSTRAINT_NAME;
	RETURN replace(concat_ws(' | ', state, message, nullif(detail, ''),
							 nullif(hint, ''), nullif(name, '')), kind, '$');
END $$;

CREATE FUNCTION twins(statement text) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	alex text := attempt(statement, 'alex');
	btree text := attempt(statement, 'btree');
BEGIN
	RETURN CASE WHEN alex = btree THEN alex
		ELSE 'DIFFERENT: ' || alex || ' / ' || btree END;
END $$;

-- The tables must be equal, and the indexes have what they hold.
CREATE FUNCTION verify() RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
	name regclass;
	n int;
BEGIN
	FOR name IN SELECT indexrelid FROM pg_index WHERE indrelid = 'alex'::regclass LOOP
		PERFORM alex_check(name, true);
	END LOOP;
	SELECT count(*) INTO n FROM (TABLE alex EXCEPT ALL TABLE btree) AS missing;
	IF n > 0 OR (SELECT count(*) FROM alex) <> (SELECT count(*) FROM btree) THEN
		RETURN 'DIFFERENT';
	END IF;
	RETURN 'equal';
END $$;

CREATE TABLE alex (k int8, n int, f float8, s text, v int);
CREATE TABLE btree (k int8, n int, f float8, s text, v int);

--
-- Rows one by one
--
CREATE UNIQUE INDEX alex_k ON alex USING alex (k);
CREATE UNIQUE INDEX btree_k ON btree USING btree (k);
SELECT twins('INSERT INTO $ SELECT i, i, i, ''x'' || i, 0 FROM generate_series(1, 250) i');
SELECT twins('INSERT INTO $ (k) VALUES (17)');
SELECT twins('INSERT INTO $ (k) VALUES (249)');
SELECT twins('INSERT INTO $ (k) VALUES (251), (251)');
SELECT twins('INSERT INTO $ (k) VALUES (251)');
SELECT twins('INSERT INTO $ (k) VALUES (251)');
SELECT twins('INSERT INTO $ (k) VALUES (NULL), (NULL)');
SELECT twins('INSERT INTO $ (k) VALUES (NULL)');
SELECT twins('UPDATE $ SET k = 18 WHERE k = 17');
SELECT twins('UPDATE $ SET k = 17 WHERE k = 17');
SELECT twins('UPDATE $ SET v = v + 1');
SELECT twins('UPDATE $ SET k = k + 1');
SELECT twins('UPDATE $ SET k = -k');
SELECT twins('UPDATE $ SET k = 1000 - k WHERE k < -100');
SELECT twins('UPDATE $ SET k = NULL WHERE k = -5');
SELECT twins('DELETE FROM $ WHERE k = -6');
SELECT twins('INSERT INTO $ (k) VALUES (-6)');
SELECT twins('INSERT INTO $ (k) VALUES (-6)');
SELECT verify();
VACUUM alex; VACUUM btree;
SELECT twins('INSERT INTO $ (k) VALUES (-5), (-17)');
SELECT twins('INSERT INTO $ (k) VALUES (-5)');
SELECT alex_compact('alex_k');
SELECT twins('INSERT INTO $ (k) VALUES (-5)');
SELECT twins('INSERT INTO $ (k) VALUES (-9223372036854775808), (9223372036854775807)');
SELECT twins('INSERT INTO $ (k) VALUES (-9223372036854775808)');
SELECT twins('INSERT INTO $ (k) VALUES (9223372036854775807)');
SELECT verify();

-- transactions and savepoints
BEGIN;
SELECT twins('INSERT INTO $ (k) VALUES (5000)');
SAVEPOINT one;
SELECT twins('INSERT INTO $ (k) VALUES (5001)');
SELECT twins('INSERT INTO $ (k) VALUES (5001)');
SELECT twins('DELETE FROM $ WHERE k = 5000');
SELECT twins('INSERT INTO $ (k) VALUES (5000)');
ROLLBACK TO one;
SELECT twins('INSERT INTO $ (k) VALUES (5000)');
SELECT twins('INSERT INTO $ (k) VALUES (5001)');
RELEASE one;
SELECT twins('INSERT INTO $ (k) VALUES (5001)');
ROLLBACK;
SELECT twins('INSERT INTO $ (k) VALUES (5000), (5001)');
SELECT verify();

-- a key is deleted and inserted again and again, sealed in between
BEGIN;
SELECT twins('DELETE FROM $ WHERE k = 1003; INSERT INTO $ (k) VALUES (1003)') FROM generate_series(1, 3);
SELECT twins('INSERT INTO $ (k) SELECT i FROM generate_series(6000, 6300) i');
SELECT twins('DELETE FROM $ WHERE k = 6001; INSERT INTO $ (k) VALUES (6001)') FROM generate_series(1, 3);
SELECT twins('INSERT INTO $ (k) VALUES (6001)');
COMMIT;
SELECT verify();

-- one statement, many duplicates among what it inserts itself
SELECT twins('INSERT INTO $ (k) SELECT 8000 + i % 500 FROM generate_series(0, 999) i');
SELECT verify();

-- COPY, and rows that a trigger inserts
COPY alex (k) FROM stdin;
9001
9002
9001
\.
CREATE FUNCTION echo() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('INSERT INTO %I (k) VALUES ($1)', TG_TABLE_NAME) USING NEW.k + 1;
	RETURN NULL;
END $$;
CREATE TRIGGER echo AFTER INSERT ON alex FOR EACH ROW WHEN (NEW.k = 9100) EXECUTE FUNCTION echo();
CREATE TRIGGER echo AFTER INSERT ON btree FOR EACH ROW WHEN (NEW.k = 9100) EXECUTE FUNCTION echo();
SELECT twins('INSERT INTO $ (k) VALUES (9100), (9101)');
SELECT twins('INSERT INTO $ (k) VALUES (9100)');
SELECT twins('INSERT INTO $ (k) VALUES (9101)');
SELECT verify();

-- without the mapping
SET alexam.use_mmap = off;
SELECT twins('INSERT INTO $ (k) VALUES (9101)');
SELECT twins('INSERT INTO $ (k) VALUES (6001)');
SELECT twins('INSERT INTO $ (k) SELECT i FROM generate_series(20000, 20300) i');
SELECT twins('UPDATE $ SET v = 1 WHERE k > 20000');
RESET alexam.use_mmap;
SELECT verify();

--
-- NULLS NOT DISTINCT
--
CREATE UNIQUE INDEX alex_n ON alex USING alex (n) NULLS NOT DISTINCT;
SELECT twins('DELETE FROM $ WHERE n IS NULL');
SELECT twins('CREATE UNIQUE INDEX $_n ON $ USING $ (n) NULLS NOT DISTINCT');
SELECT twins('INSERT INTO $ (n) VALUES (NULL)');
SELECT twins('INSERT INTO $ (n) VALUES (NULL)');
SELECT twins('INSERT INTO $ (n) VALUES (5)');
SELECT twins('UPDATE $ SET n = NULL WHERE n = 5');
SELECT twins('UPDATE $ SET v = 77 WHERE n IS NULL');
SELECT twins('DELETE FROM $ WHERE n IS NULL');
SELECT twins('UPDATE $ SET n = NULL WHERE n = 5');
SELECT twins('INSERT INTO $ (n) VALUES (NULL)');
SELECT verify();
VACUUM alex; VACUUM btree;
SELECT twins('INSERT INTO $ (n) VALUES (NULL)');
DROP INDEX alex_n, btree_n;

--
-- Equal values with several representations
--
SELECT twins('UPDATE $ SET f = NULL');
SELECT twins('CREATE UNIQUE INDEX $_f ON $ USING $ (f)');
SELECT twins('INSERT INTO $ (f) VALUES (0)');
SELECT twins('INSERT INTO $ (f) VALUES (''-0'')');
SELECT twins('INSERT INTO $ (f) VALUES (''NaN''), (''Infinity''), (''-Infinity''), (5e-324), (-5e-324)');
SELECT twins('INSERT INTO $ (f) VALUES (''NaN'')');
SELECT twins('INSERT INTO $ (f) VALUES (-''NaN''::float8)');
SELECT twins('INSERT INTO $ (f) VALUES (''Infinity'')');
SELECT twins('UPDATE $ SET f = ''-0'' WHERE f = 0');
SELECT twins('INSERT INTO $ (f) VALUES (0)');
SELECT twins('DELETE FROM $ WHERE f = ''NaN''');
SELECT twins('INSERT INTO $ (f) VALUES (-''NaN''::float8)');
SELECT verify();
DROP INDEX alex_f, btree_f;
-- at CREATE INDEX these need not be neighbours
SELECT twins('INSERT INTO $ (f) VALUES (0)');
SELECT attempt('CREATE UNIQUE INDEX $_f ON $ USING $ (f)', 'alex');
SELECT twins('DELETE FROM $ WHERE f = 0');
SELECT twins('INSERT INTO $ (f) VALUES (''NaN'')');
SELECT attempt('CREATE UNIQUE INDEX $_f ON $ USING $ (f)', 'alex');
SELECT twins('DELETE FROM $ WHERE f = ''NaN''');
SELECT twins('CREATE UNIQUE INDEX $_f ON $ USING $ (f DESC)');
SELECT twins('INSERT INTO $ (f) VALUES (''-0''), (''NaN'')');
SELECT twins('INSERT INTO $ (f) VALUES (0)');
SELECT twins('INSERT INTO $ (f) VALUES (-''NaN''::float8)');
SELECT verify();
DROP INDEX alex_f, btree_f;

--
-- Expressions and predicates
--
SELECT twins('CREATE UNIQUE INDEX $_e ON $ USING $ (abs(n))');
SELECT twins('INSERT INTO $ (n) VALUES (-7)');
SELECT twins('INSERT INTO $ (n) VALUES (-700)');
SELECT twins('INSERT INTO $ (n) VALUES (700)');
SELECT twins('CREATE UNIQUE INDEX $_p ON $ USING $ (v) WHERE s = ''p''');
SELECT twins('INSERT INTO $ (s, v) VALUES (''p'', 1), (''q'', 1), (''q'', 1)');
SELECT twins('INSERT INTO $ (s, v) VALUES (''p'', 1)');
SELECT twins('UPDATE $ SET s = ''p'' WHERE s = ''q''');
SELECT twins('UPDATE $ SET s = ''r'' WHERE s = ''p''');
SELECT twins('INSERT INTO $ (s, v) VALUES (''p'', 1)');
SELECT twins('DROP INDEX $_e');
SELECT verify();

-- what those may see who may not see the columns
DROP ROLE IF EXISTS regress_alex_unique;
CREATE ROLE regress_alex_unique;
GRANT USAGE ON SCHEMA alex_unique TO regress_alex_unique;
GRANT INSERT ON alex, btree TO regress_alex_unique;
SET ROLE regress_alex_unique;
INSERT INTO alex (k) VALUES (-17);
RESET ROLE;
REVOKE ALL ON SCHEMA alex_unique FROM regress_alex_unique;
REVOKE ALL ON alex, btree FROM regress_alex_unique;
DROP ROLE regress_alex_unique;

--
-- CREATE UNIQUE INDEX and REINDEX
--
TRUNCATE alex, btree;
SELECT twins('INSERT INTO $ (k, n) SELECT i, i FROM generate_series(1, 2000) i');
SELECT twins('INSERT INTO $ (k, n) VALUES (3000, 1234)');
SELECT twins('CREATE UNIQUE INDEX $_n ON $ USING $ (n)');
SELECT twins('CREATE UNIQUE INDEX $_n ON $ USING $ ((n % 2000))');
CREATE UNIQUE INDEX CONCURRENTLY alex_n ON alex USING alex (n);
SELECT indisvalid FROM pg_index WHERE indexrelid = 'alex_n'::regclass;
DROP INDEX alex_n;
SELECT twins('DELETE FROM $ WHERE k = 3000');
-- rows that are dead, or deleted by this transaction, are in nobody's way
BEGIN;
SELECT twins('UPDATE $ SET v = 1');
SELECT twins('DELETE FROM $ WHERE n = 100');
SELECT twins('INSERT INTO $ (k, n) VALUES (4000, 100)');
SELECT twins('CREATE UNIQUE INDEX $_n ON $ USING $ (n)');
SELECT twins('INSERT INTO $ (k, n) VALUES (4001, 100)');
COMMIT;
SELECT verify();
SELECT twins('REINDEX INDEX $_n');
SELECT twins('INSERT INTO $ (n) VALUES (100)');
DROP INDEX btree_n;
DROP INDEX alex_n;
CREATE UNIQUE INDEX CONCURRENTLY alex_n ON alex USING alex (n);
CREATE UNIQUE INDEX CONCURRENTLY btree_n ON btree USING btree (n);
SELECT twins('INSERT INTO $ (n) VALUES (100)');
REINDEX INDEX CONCURRENTLY alex_n;
SELECT twins('INSERT INTO $ (n) VALUES (100)');
SELECT twins('INSERT INTO $ (n) VALUES (9999)');
REINDEX TABLE CONCURRENTLY alex;
SELECT twins('INSERT INTO $ (n) VALUES (9999)');
SELECT verify();
CLUSTER alex USING alex_n;
SELECT twins('INSERT INTO $ (n) VALUES (9999)');
SET maintenance_work_mem = '1MB';
SELECT twins('INSERT INTO $ (n) SELECT i FROM generate_series(10000, 109999) i');
SELECT twins('REINDEX INDEX $_n');
SELECT twins('INSERT INTO $ (n) VALUES (55555)');
RESET maintenance_work_mem;
SELECT twins('TRUNCATE $');
SELECT twins('INSERT INTO $ (n) VALUES (9999), (NULL), (NULL)');
SELECT twins('INSERT INTO $ (n) VALUES (9999)');
SELECT twins('CREATE UNIQUE INDEX $_nn ON $ USING $ (n) NULLS NOT DISTINCT');
SELECT verify();

-- other kinds of tables
CREATE TEMP TABLE passing (k int);
CREATE UNIQUE INDEX passing_k ON passing USING alex (k);
INSERT INTO passing SELECT i FROM generate_series(1, 300) i;
INSERT INTO passing VALUES (5);
UPDATE passing SET k = k + 1000;
INSERT INTO passing VALUES (1005);
CREATE UNLOGGED TABLE unlogged (k int);
CREATE UNIQUE INDEX unlogged_k ON unlogged USING alex (k);
INSERT INTO unlogged SELECT i FROM generate_series(1, 300) i;
INSERT INTO unlogged VALUES (5);

--
-- Deferred checks.  Constraints of an alex index cannot be deferrable, but the
-- access method can; so the catalogs are told what ALTER TABLE would not.
--
CREATE TABLE deferred (k int, v int);
CREATE UNIQUE INDEX deferred_k ON deferred USING alex (k);
INSERT INTO deferred SELECT i, 0 FROM generate_series(1, 300) i;
CREATE CONSTRAINT TRIGGER recheck AFTER INSERT OR UPDATE ON deferred
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION unique_key_recheck();
UPDATE pg_index SET indimmediate = false WHERE indexrelid = 'deferred_k'::regclass;
UPDATE pg_trigger SET tgconstrindid = 'deferred_k'::regclass WHERE tgrelid = 'deferred'::regclass;
UPDATE deferred SET k = k + 1;
SELECT min(k), max(k), count(DISTINCT k) FROM deferred;
UPDATE deferred SET k = 200 WHERE k = 100;
BEGIN;
INSERT INTO deferred VALUES (100), (101);
DELETE FROM deferred WHERE k = 101 AND v = 0;
SELECT count(*) FROM deferred WHERE k = 100;
DELETE FROM deferred WHERE k = 100 AND v IS NULL;
COMMIT;
BEGIN;
INSERT INTO deferred VALUES (100);
SET CONSTRAINTS recheck IMMEDIATE;
ROLLBACK;
SELECT alex_check('deferred_k', true);
SELECT count(*), count(DISTINCT k) FROM deferred;

-- what works instead: an exclusion constraint that is deferrable
CREATE TABLE excluding (k int, v int,
	EXCLUDE USING alex (k WITH =) DEFERRABLE INITIALLY DEFERRED);
INSERT INTO excluding SELECT i, 0 FROM generate_series(1, 300) i;
UPDATE excluding SET k = k + 1;
SELECT min(k), max(k), count(DISTINCT k) FROM excluding;
INSERT INTO excluding VALUES (100, 1);
BEGIN;
INSERT INTO excluding VALUES (100, 1);
SELECT count(*) FROM excluding WHERE k = 100;
DELETE FROM excluding WHERE k = 100 AND v = 0;
COMMIT;
BEGIN;
INSERT INTO excluding VALUES (100, 2);
SET CONSTRAINTS ALL IMMEDIATE;
ROLLBACK;
SELECT v FROM excluding WHERE k = 100;

--
-- What PostgreSQL 15 has btree only for, and what to do instead
--
SET client_min_messages = notice;
CREATE TABLE tied (k int NOT NULL, b int, v int);
CREATE UNIQUE INDEX tied_k ON tied USING alex (k);
REINDEX INDEX tied_k;
TRUNCATE tied;
INSERT INTO tied VALUES (1, 1, 1);
ALTER TABLE tied ADD PRIMARY KEY USING INDEX tied_k;
ALTER TABLE tied ADD UNIQUE USING INDEX tied_k;
ALTER TABLE tied ADD UNIQUE USING INDEX tied_k DEFERRABLE;
CREATE TABLE referencing (k int REFERENCES tied (k));
CREATE UNIQUE INDEX tied_b ON tied (b);
INSERT INTO tied VALUES (1, 1, 2) ON CONFLICT DO NOTHING;
INSERT INTO tied VALUES (1, 1, 2) ON CONFLICT (k) DO NOTHING;
INSERT INTO tied VALUES (1, 1, 2) ON CONFLICT (b) DO NOTHING;
INSERT INTO tied VALUES (1, 1, 2) ON CONFLICT (b) DO UPDATE SET v = 3;
MERGE INTO tied USING (VALUES (1, 5), (2, 6)) AS new (k, v) ON tied.k = new.k
	WHEN MATCHED THEN UPDATE SET v = new.v
	WHEN NOT MATCHED THEN INSERT VALUES (new.k, new.k, new.v);
SELECT * FROM tied ORDER BY k;
DROP INDEX tied_k;
ALTER TABLE tied ADD EXCLUDE USING alex (k WITH =);
INSERT INTO tied VALUES (1, 7, 2) ON CONFLICT DO NOTHING;
INSERT INTO tied VALUES (8, 1, 2) ON CONFLICT (b) DO UPDATE SET v = 3;
SELECT * FROM tied ORDER BY k;
CREATE TABLE parted (k int) PARTITION BY RANGE (k);
CREATE UNIQUE INDEX ON parted USING alex (k);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE UNIQUE INDEX parted_1_k ON parted_1 USING alex (k);
INSERT INTO parted VALUES (1);
INSERT INTO parted VALUES (1);

SET client_min_messages = warning;
DROP SCHEMA alex_unique CASCADE;
