--
-- The utility command :utility on table rows_t (id, k), with index rows_alex, in
-- a transaction that has entries waiting, and inserts more afterwards:
-- committed; rolled back; rolled back to a savepoint, with more to come.
--
BEGIN;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1001, 1100) i;
:utility
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1101, 1200) i;
COMMIT;
SELECT CASE WHEN to_regclass('rows_alex') IS NOT NULL THEN same('rows_t') END AS committed;

CALL fresh_rows();
BEGIN;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1201, 1300) i;
:utility
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1301, 1400) i;
ROLLBACK;
SELECT same('rows_t') AS rolled_back;
BEGIN;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1401, 1500) i;
SAVEPOINT s;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1501, 1600) i;
:utility
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1601, 1700) i;
ROLLBACK TO s;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1701, 1800) i;
COMMIT;
SELECT same('rows_t') AS rolled_back_in_part;
-- in a subtransaction that is kept, and with one that is not around the rows
CALL fresh_rows();
BEGIN;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1801, 1900) i;
SAVEPOINT s;
:utility
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(1901, 2000) i;
RELEASE s;
SAVEPOINT s;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(2001, 2100) i;
ROLLBACK TO s;
INSERT INTO rows_t SELECT i, i % 50 FROM generate_series(2101, 2200) i;
COMMIT;
SELECT CASE WHEN to_regclass('rows_alex') IS NOT NULL THEN same('rows_t') END AS committed;
CALL fresh_rows();
