-- This transaction is open when the server goes down.
BEGIN;
INSERT INTO sessions SELECT -i, -2 FROM generate_series(1, 20000) i;
INSERT INTO measurements SELECT now(), 0, i FROM generate_series(1, 20000) i;
SELECT pg_sleep(60) AS waiting;
