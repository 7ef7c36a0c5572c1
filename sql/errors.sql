--
-- What an alex index cannot be, and what it cannot be used for.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
RESET client_min_messages;
CREATE SCHEMA alex_errors;
SET search_path = alex_errors, public;
CREATE TABLE t (id int, k int8, name text, at timetz, price numeric);
INSERT INTO t SELECT i, i FROM generate_series(1, 10) i;
-- types without an operator class
CREATE INDEX ON t USING alex (name);
CREATE INDEX ON t USING alex (at);
CREATE INDEX ON t USING alex (price);
CREATE INDEX ON t USING alex ((k::text));
CREATE INDEX ON t USING alex (name int4_ops);
CREATE INDEX ON t USING alex (k no_such_ops);
CREATE INDEX ON t USING alex (k int4_ops);
-- more than one column
CREATE INDEX ON t USING alex (id, k);
CREATE INDEX ON t USING alex (id) INCLUDE (k);
-- uniqueness
CREATE INDEX t_id_alex ON t USING alex (id);
ALTER TABLE t ADD PRIMARY KEY USING INDEX t_id_alex;
INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO NOTHING;
CREATE TABLE referencing (id int REFERENCES t (id));
-- options
CREATE INDEX ON t USING alex (k) WITH (no_such_option = 1);
CREATE INDEX ON t USING alex (k) WITH (fillfactor = 70);
ALTER INDEX t_id_alex SET (no_such_option = on);
CREATE INDEX ON t USING alex (k int8_ops (no_such_option = 1));
CREATE INDEX ON t USING alex (k COLLATE "C");
-- a constraint of another operator
CREATE TABLE excluding (k int8, EXCLUDE USING alex (k WITH <>));
CREATE TABLE excluding (k int8, EXCLUDE USING alex (k WITH +));
-- not an index, and an index of another kind
SELECT alex_check('t');
SELECT alex_compact('t');
CREATE INDEX t_id_btree ON t (id);
SELECT alex_check('t_id_btree');
SELECT alex_compact('t_id_btree');
SELECT alex_check(0);
SELECT alex_compact(NULL);
-- in use by the session: VACUUM of the table may be waiting for the cursor
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM t WHERE id > 0 ORDER BY id;
FETCH c;
SELECT alex_compact('t_id_alex');
ROLLBACK;
CREATE INDEX t_k_alex ON t USING alex (k);
BEGIN;
DECLARE c CURSOR FOR SELECT id FROM t WHERE id > 0 ORDER BY id;
FETCH c;
SELECT alex_compact('t_k_alex');
ROLLBACK;
DROP INDEX t_k_alex;
-- somebody else's index
SET client_min_messages = warning;
DROP ROLE IF EXISTS regress_alex_guest;
RESET client_min_messages;
CREATE ROLE regress_alex_guest;
GRANT USAGE ON SCHEMA alex_errors TO regress_alex_guest;
GRANT SELECT ON t TO regress_alex_guest;
SET ROLE regress_alex_guest;
SELECT alex_check('t_id_alex');
SELECT alex_compact('t_id_alex');
RESET ROLE;
REVOKE ALL ON SCHEMA alex_errors FROM regress_alex_guest;
REVOKE ALL ON t FROM regress_alex_guest;
DROP ROLE regress_alex_guest;
-- nothing of all that has harmed the index
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM t WHERE id = 7;
SELECT id FROM t WHERE id = 7;
SELECT alex_check('t_id_alex', true);
SET client_min_messages = warning;
DROP SCHEMA alex_errors CASCADE;
