# alexam - a learned index access method for PostgreSQL
#
#   make                build the extension (PGXS; PG_CONFIG=... picks a server)
#   make install        install it into that server
#   make installcheck   SQL and isolation tests against a running server which
#                       has alexam in shared_preload_libraries
#   make test           all tests, in a scratch installation and cluster of
#                       their own; TESTS="unit sanitize fuzz hazards regress
#                       isolation tap torture bench" selects
#   make torture        random load, crashes and standbys for MINUTES=10, from
#                       SEED=...
#   make hazards        show that tests fail when a guard is taken out of the
#                       sources (an hour); HAZARDS="H1 H9" selects
#   make fuzz-corpus    write the corpus of test/fuzz anew
#   make lint           what clang-tidy and cppcheck find
#   make bench          measure against btree, hash, BRIN, SQLite and RocksDB,
#                       within the hour; QUICK=1 takes minutes; see bench/lab/run
#   make bench-micro    nanoseconds an operation of src/learned, without a
#                       server; KEYS=... says over how many keys
#   make demo           a guided tour on a scratch cluster
#
# COPT adds compiler flags, as in PostgreSQL's own build (COPT=-Werror).

PG_CONFIG ?= pg_config

MODULE_big = alexam
EXTENSION = alexam
DATA = alexam--1.0.sql
PGFILEDESC = "alexam - learned index access method"

REGRESS = types options queries lists bitmap visibility parallel planner \
	build build_parallel changes pending unique permissions errors validate
ISOLATION = scan-insert-seal scan-delete-vacuum index-only-scan \
	rollback-seal concurrent-writers queue serializable unique-writers \
	write-skew read-only-anomaly phantoms unique-skew

OBJS := $(sort $(patsubst %.c,%.o,$(wildcard src/*.c src/*/*.c)))
DEPENDENCIES := $(OBJS:.o=.d)

WARNINGS = -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare
PG_CPPFLAGS = -Iinclude
PG_CFLAGS = -std=gnu11 $(WARNINGS) -Wno-declaration-after-statement -MMD -MP

# Nobody interposes the library's functions: calls among them need not go
# through the procedure linkage table, and may be inlined.
PG_CFLAGS += -fno-semantic-interposition
SHLIB_LINK += -Wl,-Bsymbolic-functions

# Bitcode for inlining by JIT takes as long as the build itself and serves
# expressions in queries only, which an access method has none of.
override with_llvm = no

EXTRA_CLEAN = build build-flags $(DEPENDENCIES)

# "make demo" alone must work before any package is installed.
goals := $(or $(MAKECMDGOALS),all)
ifneq (,$(filter-out bench bench-micro demo hazards unit-programs,$(goals)))
headers := $(shell $(PG_CONFIG) --includedir-server 2>/dev/null)
ifeq (,$(wildcard $(headers)/postgres.h))
$(error $(PG_CONFIG) leads to no server headers: install them (Debian: apt install postgresql-server-dev-15) or set PG_CONFIG)
endif
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

-include $(DEPENDENCIES)

# Objects made for another server or with other flags are stale.
$(OBJS): build-flags
build-flags: FORCE
	@{ $(PG_CONFIG) --version; echo '$(headers) $(CC) $(CFLAGS) $(CPPFLAGS)'; } >$@.new
	@if cmp -s $@.new $@; then rm $@.new; \
	elif echo '#include <xxhash.h>' | $(CC) $(CPPFLAGS) -E - >/dev/null 2>&1; then \
		mv $@.new $@; \
	else \
		rm $@.new; \
		echo 'xxhash.h is missing (Debian: apt install libxxhash-dev)' >&2; \
		exit 1; \
	fi

else
.DEFAULT_GOAL := demo
endif

# The learned room and its unit tests, compiled without the server.
UNIT_DIR = build/unit
UNIT_CFLAGS = -std=gnu11 -O2 -g $(WARNINGS) $(COPT) -MMD -MP
unit_sources := $(wildcard test/unit/test_*.c)
unit_programs := $(patsubst test/unit/%.c,$(UNIT_DIR)/%,$(unit_sources))
learned_objects := $(patsubst src/learned/%.c,$(UNIT_DIR)/%.o,$(wildcard src/learned/*.c))

unit-programs: $(unit_programs) $(UNIT_DIR)/micro

KEYS ?= 1000000
bench-micro: $(UNIT_DIR)/micro
	$< $(KEYS)

$(UNIT_DIR)/flags: FORCE
	@mkdir -p $(UNIT_DIR)
	@echo '$(CC) $(UNIT_CFLAGS)' | cmp -s - $@ || echo '$(CC) $(UNIT_CFLAGS)' >$@

$(UNIT_DIR)/%.o: src/learned/%.c $(UNIT_DIR)/flags
	$(CC) $(UNIT_CFLAGS) -Iinclude -c -o $@ $<

$(UNIT_DIR)/test_%.o: test/unit/test_%.c $(UNIT_DIR)/flags
	$(CC) $(UNIT_CFLAGS) -Iinclude -Isrc/learned -Itest/unit -c -o $@ $<

$(UNIT_DIR)/micro.o: bench/micro/micro.c $(UNIT_DIR)/flags
	$(CC) $(UNIT_CFLAGS) -Iinclude -Itest/unit -c -o $@ $<

$(unit_programs) $(UNIT_DIR)/micro: %: %.o $(learned_objects)
	$(CC) $(COPT) -o $@ $^ -lm

-include $(wildcard $(UNIT_DIR)/*.d)

# The fuzz targets: the decoders of pages and records, with stand-ins for the
# server, linked with libFuzzer, or where clang has none with a plain driver.
FUZZ_DIR = build/fuzz
FUZZ_TARGETS = leaf model manifest log run redo
FUZZ_CLANG := $(firstword $(foreach clang,clang clang-14, \
	$(if $(findstring fuzz-programs,$(goals)),$(shell \
		echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return 0; }' | \
		$(clang) -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null && \
		echo $(clang)))))
FUZZ_CC = $(or $(FUZZ_CLANG),$(CC))
FUZZ_SANITIZE = -fsanitize=address,undefined -fno-sanitize-recover=undefined
FUZZ_CFLAGS = -std=gnu11 -O1 -g $(WARNINGS) -D_GNU_SOURCE \
	-DUSE_ASSERT_CHECKING $(FUZZ_SANITIZE) -MMD -MP -Iinclude -I$(headers) \
	$(if $(FUZZ_CLANG),-fsanitize=fuzzer-no-link -Wno-ignored-attributes)
fuzz_programs := $(FUZZ_TARGETS:%=$(FUZZ_DIR)/fuzz_%)
fuzz_server := $(addprefix $(FUZZ_DIR)/,src/store/meta.o src/store/log.o \
	src/store/log_pack.o src/store/reader.o src/store/space.o \
	src/store/verified.o test/fuzz/server.o test/fuzz/never_called.o)
fuzz_learned := $(patsubst %.c,$(FUZZ_DIR)/%.o,$(wildcard src/learned/*.c))

fuzz-programs: $(fuzz_programs)

$(FUZZ_DIR)/flags: FORCE
	@mkdir -p $(FUZZ_DIR)
	@echo '$(FUZZ_CC) $(FUZZ_CFLAGS)' | cmp -s - $@ || echo '$(FUZZ_CC) $(FUZZ_CFLAGS)' >$@

$(FUZZ_DIR)/%.o: %.c $(FUZZ_DIR)/flags
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_CFLAGS) -c -o $@ $<

$(FUZZ_DIR)/fuzz_redo: $(patsubst %.c,$(FUZZ_DIR)/%.o,src/wal/rmgr.c \
	src/wal/desc.c src/wal/page_changes.c)
$(filter-out %_leaf %_model,$(fuzz_programs)): $(fuzz_server)
$(fuzz_programs): $(FUZZ_DIR)/fuzz_%: $(FUZZ_DIR)/test/fuzz/fuzz_%.o \
	$(fuzz_learned) $(if $(FUZZ_CLANG),,$(FUZZ_DIR)/test/fuzz/driver.o)
	$(FUZZ_CC) $(FUZZ_SANITIZE) $(if $(FUZZ_CLANG),-fsanitize=fuzzer) -o $@ $^ -lm

fuzz-corpus: $(FUZZ_DIR)/flags
	$(CC) -std=gnu11 -O1 $(WARNINGS) -D_GNU_SOURCE -Iinclude -I$(headers) \
		-o $(FUZZ_DIR)/seeds test/fuzz/seeds.c $(wildcard src/learned/*.c) -lm
	mkdir -p $(FUZZ_TARGETS:%=test/fuzz/corpus/%)
	$(FUZZ_DIR)/seeds test/fuzz/corpus

-include $(wildcard $(FUZZ_DIR)/*/*/*.d)

# What is found and explained is in test/TORTURE.md.
lint:
	test/lint '$(headers)'

# "+" passes the flags of this make on to those that the scripts start.
test:
	+@PG_CONFIG='$(PG_CONFIG)' COPT='$(COPT)' TESTS='$(TESTS)' \
		REGRESS='$(REGRESS)' ISOLATION='$(ISOLATION)' TAP='$(TAP)' \
		TORTURE='$(TORTURE)' test/run-tests

# A failure names the seed, with which it can be repeated (test/TORTURE.md).
torture:
	+@PG_CONFIG='$(PG_CONFIG)' COPT='$(COPT)' TESTS=torture TORTURE='$(TORTURE)' \
		MINUTES='$(or $(MINUTES),10)' SEED='$(or $(SEED),$(shell date +%s))' \
		test/run-tests

hazards:
	+@PG_CONFIG='$(PG_CONFIG)' test/prove-hazards $(HAZARDS)

bench:
	+@PG_CONFIG='$(PG_CONFIG)' QUICK='$(QUICK)' SMOKE='$(SMOKE)' ROWS='$(ROWS)' \
		ONLY='$(ONLY)' KEY_FILE='$(KEY_FILE)' bench/lab/run

demo:
	+@PG_CONFIG='$(PG_CONFIG)' demo/demo

.PHONY: test torture hazards lint fuzz-corpus bench bench-micro demo \
	unit-programs fuzz-programs FORCE
