# tinylm: `make help` lists the targets.
MAKEFLAGS += -r
config    ?= release
BUILD     := build/$(config)
Q         := $(if $(V),,@)
ifeq ($(origin CC),default)
CC := cc
endif
ifeq ($(origin CXX),default)
CXX := c++
endif
NVCC     ?= $(or $(shell command -v nvcc),/usr/local/cuda/bin/nvcc)

WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla
CPPFLAGS := -I. -D_GNU_SOURCE
CFLAGS   := -std=gnu11 -g $(WARN) -fno-math-errno -ffp-contract=off
# C++ is the language of the GPU's kernels alone: nvcc's, or the tests' emulation's. They use nothing of its library.
CXXFLAGS = -std=gnu++20 $(filter-out -std=% -Wstrict-prototypes -Wmissing-prototypes -Wshadow,$(CFLAGS)) -Wno-missing-field-initializers -fno-exceptions -fno-rtti -Wno-unknown-pragmas
LDLIBS   := -ljansson -linih -lpcre2-8 -lutf8proc -lxxhash -lm -lpthread
ifeq ($(config),release)
CFLAGS += -O2
else ifeq ($(config),debug)
CFLAGS += -Og -DTLM_DEBUG
else ifeq ($(config),sanitize)
CFLAGS  += -O1 -DTLM_DEBUG -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
LDFLAGS += -fsanitize=address,undefined
# Tests' limits are for the release.
export CK_TIMEOUT_MULTIPLIER := 5
else ifeq ($(config),fuzz)
CC     := clang
CFLAGS += -O1 -DTLM_DEBUG -fsanitize=fuzzer-no-link,address,undefined
else
$(error config=$(config): expected release, debug, sanitize or fuzz)
endif
ifeq ($(CI),true)
CFLAGS += -Werror
endif

# Instruction sets are chosen by the names of files; all else runs on any x86-64. Kernels say themselves where a product and a
# sum become one: nothing is contracted behind their backs.
ISA_avx2        := -O3 -mavx2 -mfma -mf16c
# The assembler knows its one instruction; compilers of before 2021 have no name for the set.
ISA_avx_vnni    := $(ISA_avx2)
ISA_avx512      := $(ISA_avx2) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512
ISA_avx512_vnni := $(ISA_avx512) -mavx512vnni
ISA_avx512_bf16 := $(ISA_avx512_vnni) -mavx512bf16
ISAS            := avx2 avx_vnni avx512 avx512_vnni avx512_bf16
isa_flags        = $(ISA_$(firstword $(foreach i,$(ISAS),$(if $(filter %_$i,$1),$i))))
# Line numbers serve profiles; to follow the variables of unrolled loops would take as long as to compile them.
KERNELS          := $(if $(filter release,$(config)),-O3 -g1)
kernel_flags      = $(isa_flags) $(if $(filter ops/%,$1),$(KERNELS))

LIB_SRC  := $(wildcard core/*.c quant/*.c ops/*.c cache/*.c text/*.c models/*.c generate/*.c train/*.c quant/methods/*.c)
CLI_SRC  := tinylm.c $(wildcard cli/*.c)
TEST_SRC := $(filter-out tests/demo_model.c tests/fuzz_main.c tests/http_server.c tests/chat_pty.c tests/cli_batch.c tests/nvrtc_check.c tests/bench_%.c,$(wildcard tests/*.c))
# The references and the CPU's ops are built a second time for double (see ops/ops.h); what only shapes graphs is not.
REAL_SRC := $(filter-out $(ISAS:%=\%_%.c) ops/builders.c ops/builders_gradient.c ops/passes.c ops/step.c ops/update.c,$(wildcard ops/*.c))

CUDA_SRC := $(filter-out cuda/none.c,$(wildcard cuda/*.c))
CUDA_CU  := $(wildcard cuda/*.cu)
EMU_SRC  := $(filter-out cuda/runtime.cu,$(CUDA_CU)) $(wildcard tests/cuda_emu/*.cu tests/cuda_emu/*.cc)

CPU_OBJ  := $(LIB_SRC:%.c=$(BUILD)/%.o) $(REAL_SRC:%.c=$(BUILD)/%.f64.o)
LIB_OBJ  := $(CPU_OBJ) $(BUILD)/cuda/none.o
CUDA_OBJ := $(CUDA_SRC:%.c=$(BUILD)/%.o) $(CUDA_CU:%.cu=$(BUILD)/%.cu.o)
# Without a device: the kernels on the emulation, and the emulation's own cuBLAS and NCCL.
EMU_OBJ  := $(patsubst %.c,$(BUILD)/%.o,$(filter-out cuda/cublas.c cuda/nccl.c cuda/nvrtc.c,$(CUDA_SRC))) $(EMU_SRC:%=$(BUILD)/%.emu.o)
CLI_OBJ  := $(CLI_SRC:%.c=$(BUILD)/%.o)
TEST_OBJ := $(TEST_SRC:%.c=$(BUILD)/%.o)
HERE     := $(if $(filter release,$(config)),,$(BUILD)/)
PROGRAM  := $(HERE)tinylm
LIBRARY  := $(HERE)libtinylm.a
TESTS    := $(BUILD)/test_tinylm
# What checks a GPU (scripts/gpu_check.sh), for a device and on the emulation, which tests the check itself.
GPU_BENCH   := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/gpu/bench*.c))
# A step as one launch, which is measured and tested, and which nothing takes yet.
GPU_STEP    := $(BUILD)/tests/gpu/llama_step.o $(BUILD)/tests/gpu/persistent.cu.o
EMU_STEP    := $(BUILD)/tests/gpu/llama_step.o $(BUILD)/tests/gpu/persistent.cu.emu.o
GPU_TESTS   := $(filter-out %/main.o %/test_cuda_emu.o,$(TEST_OBJ)) $(BUILD)/tests/gpu/main.o $(BUILD)/tests/gpu/device.cu.o $(GPU_STEP)
GPU_FILES   := $(addprefix build/gpu/,tinylm test_gpu gpu_bench gpu_report)
CHECK_FILES := $(addprefix $(BUILD)/gpu-emulation/,tinylm test_gpu gpu_bench gpu_report)
BUILTIN  := models/pretrained/tinylm-stories-q4_0.gguf
FUZZERS  := gguf tokenizer template tokenizer_json safetensors hf_config config grammar
FUZZ_SECONDS ?= 60

.PHONY: all cuda gpu-files gpu-check demo test bench check fuzz format clean help deps
all: $(PROGRAM) $(LIBRARY)

$(PROGRAM): $(CLI_OBJ) $(LIBRARY)
	@echo "  LD   $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -ledit $(LDLIBS)

$(LIBRARY): $(LIB_OBJ)
	@echo "  AR   $@"
	$(Q)rm -f $@ && ar rcs $@ $^

comma   := ,
WRAPPED := malloc calloc realloc aligned_alloc mmap
$(TESTS): $(TEST_OBJ) $(EMU_STEP) $(EMU_OBJ) $(LIBRARY)
	@echo "  LD   $@"
	$(Q)$(CC) $(LDFLAGS) $(WRAPPED:%=-Wl,--wrap=%) -o $@ $^ -lcheck -lsubunit -lrt $(LDLIBS)

$(BUILD)/%.f64.o: %.c
	@mkdir -p $(@D)
	@echo "  CC   $< (double)"
	$(Q)$(CC) $(CPPFLAGS) -DREAL_DOUBLE $(CFLAGS) $(KERNELS) -MMD -MP -c -o $@ $<

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC   $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(call kernel_flags,$*) -MMD -MP -c -o $@ $<

# The GPU's kernels as plain C++ on the emulation of tests/cuda_emu/.
$(BUILD)/%.emu.o: %
	@mkdir -p $(@D)
	@echo "  CXX  $<"
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -MMD -MP -c -o $@ -x c++ $<

# And for a device: code for compute capability 8.0 and 9.0a, and PTX, which the driver turns into code for newer ones.
# Results that are the host's bit for bit are rounded as often as the host's.
$(BUILD)/cuda/update.cu.o $(BUILD)/cuda/sum_squares.cu.o $(BUILD)/cuda/muon.cu.o $(BUILD)/cuda/kv_write.cu.o $(BUILD)/cuda/sample.cu.o $(BUILD)/cuda/sample_choose.cu.o: NVCC_FLAGS := -fmad=false
# Compressed by those that can: a quarter of the bytes.
SMALL = $(if $(shell $(NVCC) --help | grep compress-mode),--compress-mode=size)
ARCHS := -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90a,code=sm_90a -gencode arch=compute_80,code=compute_80
$(BUILD)/%.cu.o: %.cu
	@mkdir -p $(@D)
	@echo "  NVCC $<"
	$(Q)$(NVCC) -std=c++20 -O3 $(NVCC_FLAGS) $(ARCHS) $(SMALL) $(CPPFLAGS) -Xcompiler -Wall,-Wextra,-Wno-unused-function,-Wno-missing-field-initializers -MMD -MP -c -o $@ $<

CUDA_LIBS := -L$(dir $(NVCC))../lib64 -lcudart_static -l:libstdc++.a -ldl -lrt
$(BUILD)/tinylm-cuda: $(CLI_OBJ) $(CUDA_OBJ) $(LIBRARY)
	@echo "  LD   $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -ledit $(CUDA_LIBS) $(LDLIBS)

cuda: all ## build with the CUDA backend, by nvcc
	@$(JOBS) $(BUILD)/tinylm-cuda
	@cp $(BUILD)/tinylm-cuda $(PROGRAM)

# Without symbols, and with the libraries beside them that another machine may lack, also those that these need.
GPU_LINK = $(CC) $(LDFLAGS) -s -Wl,--disable-new-dtags,-rpath,'$$ORIGIN/lib' -o $@
build/gpu/tinylm: $(CLI_OBJ) $(CUDA_OBJ) $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  LD   $@"
	$(Q)$(GPU_LINK) $^ -ledit $(CUDA_LIBS) $(LDLIBS)
build/gpu/test_gpu: $(GPU_TESTS) $(CUDA_OBJ) $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  LD   $@"
	$(Q)$(GPU_LINK) $(addprefix -Wl$(comma)--wrap=,$(WRAPPED) cuda_alloc cuda_free cuda_tile_map_make) $^ -lcheck -lsubunit $(CUDA_LIBS) $(LDLIBS)
build/gpu/gpu_bench: $(GPU_BENCH) $(GPU_STEP) $(CUDA_OBJ) $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  LD   $@"
	$(Q)$(GPU_LINK) $^ $(CUDA_LIBS) $(LDLIBS)
build/gpu/gpu_report $(BUILD)/gpu-emulation/gpu_report: $(BUILD)/tests/gpu/report.o
	@mkdir -p $(@D)
	@echo "  LD   $@"
	$(Q)$(GPU_LINK) $^ -ljansson -lm

$(BUILD)/gpu-emulation/tinylm: $(CLI_OBJ) $(EMU_OBJ) $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  LD   $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -ledit $(LDLIBS)
$(BUILD)/gpu-emulation/gpu_bench: $(GPU_BENCH) $(EMU_STEP) $(EMU_OBJ) $(LIBRARY)
	@mkdir -p $(@D)
	@echo "  LD   $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(BUILD)/gpu-emulation/test_gpu: $(TESTS)
	@mkdir -p $(@D)
	@ln -sf ../test_tinylm $@

gpu-files: ## what checks a GPU, with all it needs, in build/gpu
	@$(JOBS) $(GPU_FILES)
	@mkdir -p build/gpu/lib
	@ldd $(GPU_FILES) | awk '/=> \// && !/lib(c|m|dl|rt|pthread)\.so|build\/gpu\/lib/ { print $$3 }' | sort -u | xargs -r cp -Lt build/gpu/lib

gpu-check: ## tests and speeds on the GPU of this machine, into docs/benchmarks/gpu.md
	@sh scripts/gpu_check.sh --probe
	@$(MAKE) --no-print-directory gpu-files
	@sh scripts/gpu_check.sh

$(BUILD)/cli/builtin.o: CPPFLAGS += -DBUILTIN_FILE='"$(BUILTIN)"'
$(BUILD)/cli/builtin.o: $(BUILTIN)
# The program has the sources of kernels in it that can do without a host, and all that they may include.
KERNEL_FILES := $(shell grep -l __CUDACC_RTC__ cuda/*.cu) $(wildcard cuda/*.h core/*.h ops/*.h ops/*.def) quant/quant.h quant/iq_tables.h quant/iq_tables.c tinylm.h
$(BUILD)/cuda/kernel_source.o: CPPFLAGS += -DKERNEL_FILES='"$(BUILD)/cuda/kernel_files"'
$(BUILD)/cuda/kernel_source.o: $(BUILD)/cuda/kernel_files
$(BUILD)/cuda/kernel_files: $(KERNEL_FILES)
	@mkdir -p $(@D)
	@printf 'FILE("%s")\n' $^ >$@

# A program of one file over the library: the example of the docs, the tests' HTTP server and model of word statistics.
$(BUILD)/docs/example $(BUILD)/tests/demo_model $(BUILD)/tests/http_server $(BUILD)/tests/chat_pty $(BUILD)/tests/cli_batch $(BUILD)/tests/bench_matmul \
  $(BUILD)/tests/bench_attention $(BUILD)/tests/bench_gradient $(BUILD)/tests/bench_optimizer $(BUILD)/tests/bench_constraint: \
  $(BUILD)/%: $(BUILD)/%.o $(LIBRARY)
	@echo "  LD   $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/tests/nvrtc_check: $(BUILD)/tests/nvrtc_check.o $(BUILD)/cuda/nvrtc.o $(BUILD)/cuda/kernel_source.o $(LIBRARY)
	@echo "  LD   $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

deps: ## install the distribution's packages that are missing
	@sh scripts/install_deps.sh

JOBS = $(MAKE) --no-print-directory -j$(shell nproc)

demo: deps ## build, and let the model that is built in tell a story
	@$(JOBS) all
	@echo "./$(PROGRAM) generate -p 'Once upon a time' -n 200 -s 7"
	@./$(PROGRAM) generate -p 'Once upon a time' -n 200 -s 7

test: deps ## build and run all tests
	@$(JOBS) all $(TESTS) $(CHECK_FILES) $(BUILD)/docs/example $(BUILD)/tests/demo_model $(BUILD)/tests/http_server $(BUILD)/tests/chat_pty $(BUILD)/tests/cli_batch $(BUILD)/tests/nvrtc_check
	@$(TESTS)
	@$(BUILD)/tests/nvrtc_check
	@sh tests/test_cli.sh $(PROGRAM) tests/golden/llama-plain.gguf
	@$(BUILD)/tests/chat_pty ./$(PROGRAM) tests/golden/llama-plain.gguf
	@$(BUILD)/tests/cli_batch ./$(PROGRAM) tests/golden/llama-plain.gguf
	@sh tests/test_measure.sh $(PROGRAM) tests/golden $(BUILD)/tests/demo_model
	@sh tests/test_train.sh ./$(PROGRAM) tests/golden
	@sh tests/test_gpu_check.sh $(BUILD)/gpu-emulation
	@sh tests/test_get_model.sh $(BUILD)/tests/http_server scripts/get_model.sh

bench: all ## speed of the model that is built in, or of MODEL=file.gguf
	@./$(PROGRAM) bench $(MODEL:%=-m %)

C_FILES = $(shell git ls-files '*.c' '*.h' 2>/dev/null)
check: ## formatting and static analysis
	@scripts/install_deps.sh --dev
	@clang-format --dry-run -Werror $(C_FILES)
	@cppcheck --quiet --error-exitcode=1 --std=c11 --enable=warning -I. -D_GNU_SOURCE \
	  '-Djson_array_foreach(array,i,item)=for(i=0;(item=json_array_get(array,i));i++)' \
	  '-Djson_object_foreach(object,key,item)=for(key="";(item=json_object_get(object,key));)' \
	  --suppress=missingIncludeSystem --suppress=objectIndex --suppress=invalidFunctionArg --suppress=ctunullpointer \
	  core quant ops cache text models generate train cli tinylm.c

fuzz: ## run each fuzz target for FUZZ_SECONDS (60) under clang's libFuzzer
	@scripts/install_deps.sh --dev
	@$(JOBS) config=fuzz $(FUZZERS:%=build/fuzz/%)
	@for f in $(FUZZERS); do mkdir -p build/fuzz/corpus-$$f && \
	  build/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -print_final_stats=0 -verbosity=0 \
	    -artifact_prefix=build/fuzz/ build/fuzz/corpus-$$f tests/golden || exit 1; done

build/fuzz/%: tests/fuzz_%.c tests/fuzz_main.c build/fuzz/libtinylm.a
	@echo "  LD   $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -DFUZZ_TARGET=fuzz_$* -fsanitize=fuzzer,address,undefined -o $@ $^ $(LDLIBS)

format: ## lay out all C files by .clang-format
	@clang-format -i $(C_FILES)

clean: ## remove what was built
	rm -rf build tinylm libtinylm.a

help: ## this list
	@echo 'tinylm: make [TARGET] [config=release|debug|sanitize]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 12
