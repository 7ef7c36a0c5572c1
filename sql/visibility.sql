--
-- Index-only scans of a table whose visibility map has two pages, which they
-- pin after 1,000 rows: what they return, and that they let go of the pages.
--
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS alexam;
CREATE SCHEMA alex_visibility;
SET search_path = alex_visibility;
SET jit = off;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET enable_sort = off;

-- a row a block, in no order
CREATE UNLOGGED TABLE rows (k int, filler text) WITH (fillfactor = 10, autovacuum_enabled = off);
INSERT INTO rows SELECT i * 7919 % 33000, repeat('x', 700) FROM generate_series(0, 32999) i;
CREATE INDEX rows_k_alex ON rows USING alex (k);
VACUUM (ANALYZE) rows;
SELECT pg_relation_size('rows') / 8192 > 32672 AS has_two_pages;

SET max_parallel_workers_per_gather = 0;
EXPLAIN (COSTS OFF) SELECT count(k), sum(k) FROM rows WHERE k >= 0;
SELECT count(k), sum(k) FROM rows WHERE k >= 0;
-- the scan is begun anew
SELECT n, found FROM generate_series(1, 3) n, LATERAL (SELECT count(k) AS found FROM rows WHERE k < n * 1500) AS s;
-- it ends early, by a limit, an error, and a rollback
SELECT count(*), sum(k) FROM (SELECT k FROM rows ORDER BY k LIMIT 2500) AS s;
SELECT count(1 / (k - 3000)) FROM rows WHERE k >= 0;
BEGIN;
DECLARE outside CURSOR FOR SELECT k FROM rows ORDER BY k;
MOVE 2000 FROM outside;
SAVEPOINT s;
DECLARE inside CURSOR FOR SELECT k FROM rows ORDER BY k DESC;
MOVE 2000 FROM inside;
FETCH inside;
ROLLBACK TO s;
FETCH outside;
CLOSE outside;
COMMIT;

SET max_parallel_workers_per_gather = 2;
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_index_scan_size = 0;
EXPLAIN (COSTS OFF) SELECT count(k), sum(k) FROM rows WHERE k >= 0;
SELECT count(k), sum(k) FROM rows WHERE k >= 0;

-- rows that are not visible to all
DELETE FROM rows WHERE k % 3 = 0;
SELECT count(k), sum(k) FROM rows WHERE k >= 0;
-- nobody has a page pinned: that would be an error, or take forever
TRUNCATE rows;
SELECT count(k), sum(k) FROM rows WHERE k >= 0;

DROP SCHEMA alex_visibility CASCADE;
