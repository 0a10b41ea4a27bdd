# Qiudao: `make` builds everything, `make help` lists the targets.
#   make CXX=clang++       another compiler           make BUILD=out          another folder for objects
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += --no-print-directory -j$(shell nproc)
endif
BUILD    ?= build
BIN      ?= bin
CXXFLAGS ?= -O3 -DNDEBUG
FLAGS_tests := -O1# they run once for each time they are compiled
FLAGS_apps  := -O1# they call what takes the time
QD_FLAGS := -std=c++20 -pthread -ffp-contract=off -Wall -Wextra -Wpedantic -I. $(EXTRA)
LDLIBS   := -pthread

# One source tree for each table of kernels; other processors build the baseline alone.
ARCH := $(shell uname -m)
ifeq ($(ARCH),x86_64)
KERNELS        := baseline avx2 avx512 avx512_bf16
FLAGS_avx2     := -mavx2 -mfma
FLAGS_avx512   := -mavx2 -mfma -mavx512f -mavx512bw -mavx512dq -mavx512vl -mprefer-vector-width=512
FLAGS_avx512_bf16 := $(FLAGS_avx512) -mavx512bf16
else
KERNELS        := baseline
QD_FLAGS       += -DQD_BASELINE_ONLY
endif

LIB_SRC  := $(wildcard core/*.cpp nn/*.cpp models/*.cpp data/*.cpp) core/kernels/dispatch.cpp $(KERNELS:%=core/kernels/%.cpp)
SHARED   := options run language# of apps/: no app, linked into all of them
APPS     := $(filter-out $(SHARED),$(patsubst apps/%.cpp,%,$(wildcard apps/*.cpp)))
TEST_SRC := $(filter-out tests/peers/% tests/fuzz/%,$(wildcard tests/*.cpp tests/*/*.cpp))
FUZZERS  := $(patsubst tests/fuzz/fuzz_%.cpp,%,$(wildcard tests/fuzz/*.cpp))
FUZZ_SECONDS ?= 60
obj       = $(patsubst %.cpp,$(BUILD)/%.o,$(1))
LIB      := $(BUILD)/libqiudao.a
TESTS    ?= $(BUILD)# where the objects of the tests are, but for one that asks how the library was built
ASKS     := tests/core/test_allocator.cpp
TEST_OBJ := $(patsubst %.cpp,$(TESTS)/%.o,$(filter-out $(ASKS),$(TEST_SRC))) $(call obj,$(ASKS))

.SECONDARY:   # objects are kept
.PHONY: all deps demo test bench peers asan fuzz lib format lint layers clean help
all: $(APPS:%=$(BIN)/%) $(BUILD)/test ## build the apps in bin/ and the test program

lib: $(LIB) ## build build/libqiudao.a for your own programs
$(LIB): $(call obj,$(LIB_SRC))
	@rm -f $@
	ar rcs $@ $^

# Asked once, or the first error would be about a header somewhere deep.
$(BUILD)/headers:
	@mkdir -p $(BUILD)
	@printf '#include <%s>\n' nlohmann/json.hpp CLI/CLI.hpp doctest/doctest.h stb/stb_image.h | $(CXX) -std=c++20 -E -x c++ - > /dev/null 2>&1 \
	  || { echo "a compiler or header packages are missing: make deps installs them" >&2; exit 1; }
	@touch $@

$(BUILD)/%.o: %.cpp Makefile | $(BUILD)/headers
	@mkdir -p $(@D)
	$(CXX) $(QD_FLAGS) $(FLAGS_$(*F)) $(CXXFLAGS) $(FLAGS_$(firstword $(subst /, ,$<))) -MMD -MP -c $< -o $@

.SECONDEXPANSION:   # a folder apps/X/ holds further parts of apps/X.cpp
$(BIN)/%: $(BUILD)/apps/%.o $$(call obj,$$(wildcard apps/$$*/*.cpp)) $(SHARED:%=$(BUILD)/apps/%.o) $(LIB)
	@mkdir -p $(@D)
	$(CXX) $(CXXFLAGS) $^ $(LDLIBS) -o $@
$(BUILD)/test: $(TEST_OBJ) $(SHARED:%=$(BUILD)/apps/%.o) $(LIB)
	$(CXX) $(CXXFLAGS) $^ $(LDLIBS) -o $@

test: all ## build and run all tests
	$(BUILD)/test

SANITIZE := -fsanitize=address,undefined -fno-sanitize=nonnull-attribute -fno-sanitize-recover=all# stb copies nothing to nowhere
# Undefined behaviour is looked for where bytes and pointers are handled, in core/ and data/; the tests' own objects are those of `make test`:
# otherwise the build would take twice as long.
ASAN_ONLY := -fno-sanitize=undefined
asan: $(call obj,$(TEST_SRC)) ## library and apps with address and undefined-behaviour sanitizers under the tests, without the slow ones
	$(MAKE) BUILD=build/asan BIN=build/asan/bin TESTS=$(BUILD) CXXFLAGS="-O1 -g1 $(SANITIZE)" FLAGS_tests="$(ASAN_ONLY)" FLAGS_apps="$(ASAN_ONLY)" \
	  FLAGS_models="$(ASAN_ONLY)" FLAGS_nn="$(ASAN_ONLY)" all
	export QD_BUILD=build/asan QD_BIN=build/asan/bin; build/asan/test -tse=slow -sf="tests/core/*,tests/data/*" & half=$$!; \
	  build/asan/test -tse=slow -sfe="tests/core/*,tests/data/*"; rest=$$?; wait $$half && exit $$rest   # most tests use one core

fuzz: ## any bytes for the readers, FUZZ_SECONDS each (needs clang++)
	$(MAKE) BUILD=build/fuzz CXX=clang++ CXXFLAGS="-O1 -g -DNDEBUG -fsanitize=fuzzer-no-link $(SANITIZE)" $(FUZZERS:%=build/fuzz/fuzz_%)
	@for name in $(FUZZERS); do mkdir -p build/fuzz/corpus/$$name; \
	  build/fuzz/fuzz_$$name -max_total_time=$(FUZZ_SECONDS) -timeout=20 -max_len=4096 -artifact_prefix=build/fuzz/ \
	    -print_final_stats=1 build/fuzz/corpus/$$name tests/fuzz/seeds/$$name || exit 1; done
build/fuzz/fuzz_%: build/fuzz/tests/fuzz/fuzz_%.o build/fuzz/libqiudao.a
	$(CXX) -fsanitize=fuzzer,address,undefined $^ $(LDLIBS) -o $@

bench: $(BIN)/bench ## speed of kernels and training steps, with the per cent of the measured peak
	$(BIN)/bench

peers: $(BIN)/bench ## the README's ratios to PyTorch, oneDNN and OpenBLAS, where they are installed
	python3 tests/peers/compare.py

deps: ## install compiler and header packages with apt, or print their names
	@sh apps/deps.sh

demo: deps ## three minutes: fetch a free Chinese text, find its words, train a language model on it, and an auto-encoder on drawn faces
	@$(MAKE) $(BIN)/lm $(BIN)/words $(BIN)/vqvae
	@sh apps/demo.sh

SOURCES := $(wildcard */*.h */*.cpp */*/*.h */*/*.cpp */*/*.inl)
format: ## clang-format all sources
	clang-format -i $(filter-out data/unicode_table.cpp,$(SOURCES))

lint: ## clang-tidy all sources
	clang-tidy --quiet $(filter %.cpp,$(filter-out core/kernels/avx% tests/peers/% tests/fuzz/%,$(SOURCES))) -- $(QD_FLAGS)

# core <- nn <- models <- apps, and data beside them
layers: ## fail where an include points against the order of the folders
	@! grep -nE '#include "(nn|models|data|apps|tests)/' $(filter core/%,$(SOURCES))
	@! grep -nE '#include "(models|data|apps|tests)/' $(filter nn/%,$(SOURCES))
	@! grep -nE '#include "(data|apps|tests)/' $(filter models/%,$(SOURCES))
	@! grep -nE '#include "(nn|models|apps|tests)/' $(filter data/%,$(SOURCES))
	@! grep -lE '#include <CLI/' $(filter-out apps/options.cpp,$(SOURCES))
	@echo "layers: every include points the right way"

clean: ## remove build/ and bin/
	rm -rf build $(BIN)

help: ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

-include $(patsubst %.cpp,$(BUILD)/%.d,$(LIB_SRC) $(wildcard apps/*.cpp apps/*/*.cpp) $(TEST_SRC))
