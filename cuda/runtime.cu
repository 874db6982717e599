// cuda/runtime.cu -- cuda/runtime.h on the CUDA runtime, which is linked in; the driver is found when the program runs.
#include "cuda/runtime.h"

#include <cudaTypedefs.h>
#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuda/hopper.h"

enum { OLDEST = 8 }; // compute capability 8.0: bf16, cp.async

static cudaStream_t stream_of(struct cuda_stream *s)
{
    return (cudaStream_t)s;
}

int cuda_count(void)
{
    int count = 0, driver = 0;
    cudaDriverGetVersion(&driver);
    if (driver && cudaGetDeviceCount(&count) == cudaSuccess) return count;
    cudaGetLastError(); // cuda_open() says why
    return 0;
}

enum tlm_status cuda_open(struct cuda_device *d, int number, struct tlm_error *err)
{
    int count = 0, driver = 0, runtime = 0;
    *d = {};
    d->number = number;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    if (!driver) return error_set(err, TLM_ERR_UNSUPPORTED, "cuda: no driver on this machine");
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e == cudaErrorInsufficientDriver)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "cuda: the driver knows CUDA %d.%d, expected %d.%d or newer", driver / 1000,
                         driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    if (e || !count)
        return error_set(err, TLM_ERR_UNSUPPORTED, "cuda: no device: %s",
                         e ? cudaGetErrorString(e) : "the driver lists none");
    if (number >= count)
        return error_set(err, TLM_ERR_UNSUPPORTED, "cuda: device %d: the driver lists %d", number, count);
    struct cudaDeviceProp p;
    if ((e = cudaGetDeviceProperties(&p, number)) || (e = cudaSetDevice(number)) ||
        (e = cudaMemGetInfo(&d->available, &d->memory)))
        return error_set(err, TLM_ERR_UNSUPPORTED, "cuda: device %d: %s", number, cudaGetErrorString(e));
    snprintf(d->name, sizeof d->name, "%s", p.name);
    d->major = p.major, d->minor = p.minor, d->processors = p.multiProcessorCount;
    if (p.major < OLDEST)
        return error_set(err, TLM_ERR_UNSUPPORTED,
                         "cuda: %s: expected compute capability 8.0 or newer, found %d.%d", d->name, p.major,
                         p.minor);
    return TLM_OK;
}

void cuda_use(const struct cuda_device *d)
{
    cudaSetDevice(d->number);
}

void cuda_close(struct cuda_device *)
{
    cudaDeviceSynchronize();
}

int cuda_processors(void)
{
    int device = 0, count = 1;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
    return count;
}

size_t cuda_shared_most(void)
{
    int device = 0, bytes = 48 << 10;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    return (size_t)bytes;
}

// The function is the driver's, which may not be there when the program is linked.
static PFN_cuTensorMapEncodeTiled_v12000 encode_function(void)
{
    int device = 0, major = 0;
    void *function = NULL;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (major != 9) return NULL; // the kernels that read tiles are for 9.0a
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault,
                                         &found) ||
        found != cudaDriverEntryPointSuccess)
        cudaGetLastError(); // told to the caller
    return (PFN_cuTensorMapEncodeTiled_v12000)function;
}

bool cuda_tile_map_make(struct cuda_tile_map *m, const void *base, int64_t columns, int64_t rows,
                        size_t stride, int box_rows)
{
    static const PFN_cuTensorMapEncodeTiled_v12000 encode = encode_function();
    static_assert(sizeof *m == sizeof(CUtensorMap), "a map is the driver's");
    if (!encode || (uintptr_t)base % 16 || stride % 16 || box_rows < 1 || box_rows > 256) return false;
    const cuuint64_t size[2] = {(cuuint64_t)columns, (cuuint64_t)rows}, apart[1] = {stride};
    const cuuint32_t box[2] = {64, (cuuint32_t)box_rows}, each[2] = {1, 1};
    return encode((CUtensorMap *)m, CU_TENSOR_MAP_DATA_TYPE_UINT16, 2, (void *)base, size, apart, box, each,
                  CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

// Nothing, too, has an address of its own.
void *cuda_alloc(size_t bytes)
{
    void *p = NULL;
    if (cudaMalloc(&p, bytes ? bytes : 1) == cudaSuccess) return p;
    cudaGetLastError(); // told to the caller by NULL
    return NULL;
}

void cuda_free(void *p)
{
    cudaFree(p);
}

struct cuda_stream *cuda_stream_open(void)
{
    cudaStream_t s = NULL;
    return cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking) == cudaSuccess ? (struct cuda_stream *)s
                                                                               : NULL;
}

void cuda_stream_close(struct cuda_stream *s)
{
    if (s) cudaStreamDestroy(stream_of(s));
}

void cuda_copy_in(struct cuda_stream *s, void *device, const void *host, size_t bytes)
{
    cudaMemcpyAsync(device, host, bytes, cudaMemcpyDefault, stream_of(s));
}

void cuda_copy_out(struct cuda_stream *s, void *host, const void *device, size_t bytes)
{
    cudaMemcpyAsync(host, device, bytes, cudaMemcpyDefault, stream_of(s));
}

void cuda_copy(struct cuda_stream *s, void *to, const void *from, size_t bytes)
{
    cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_of(s));
}

// By way of the host where the devices cannot reach each other; the runtime sees to it.
void cuda_copy_between(struct cuda_stream *s, void *to, const struct cuda_device *target, const void *from,
                       const struct cuda_device *source, size_t bytes)
{
    cudaMemcpyPeerAsync(to, target->number, from, source->number, bytes, stream_of(s));
}

// Launches and copies leave their error with the runtime, which keeps it for the thread until it is asked; beside it stands the first launch
// that had one.
static thread_local char failed_launch[256];

void cuda_launch_failed(const char *name, const cudaLaunchConfig_t *c)
{
    if (*failed_launch) return;
    snprintf(failed_launch, sizeof failed_launch,
             ", at the launch of %.120s: grid %u x %u x %u, %u threads, %zu bytes of shared memory", name,
             c->gridDim.x, c->gridDim.y, c->gridDim.z, c->blockDim.x, c->dynamicSmemBytes);
}

static void forget_error(void)
{
    cudaGetLastError();
    *failed_launch = '\0';
}

static enum tlm_status tell(cudaError_t e, struct tlm_error *err)
{
    if (e) error_set(err, TLM_ERR_IO, "cuda: %s%s", cudaGetErrorString(e), failed_launch);
    forget_error();
    return e ? TLM_ERR_IO : TLM_OK;
}

enum tlm_status cuda_sync(struct cuda_stream *s, struct tlm_error *err)
{
    const cudaError_t e = cudaGetLastError(), later = cudaStreamSynchronize(stream_of(s));
    return tell(e ? e : later, err);
}

enum tlm_status cuda_failure(struct tlm_error *err)
{
    return tell(cudaGetLastError(), err);
}

bool cuda_pin(void *pages, size_t bytes)
{
    if (!bytes || cudaHostRegister(pages, bytes, cudaHostRegisterPortable) == cudaSuccess) return true;
    cudaGetLastError(); // no failure of the work
    return false;
}

void cuda_unpin(void *pages)
{
    if (cudaHostUnregister(pages) != cudaSuccess) cudaGetLastError();
}

// ---- events -----------------------------------------------------------------------------------------------

struct cuda_event *cuda_event_open(void)
{
    cudaEvent_t e = NULL;
    return cudaEventCreate(&e) == cudaSuccess ? (struct cuda_event *)e : NULL;
}

void cuda_event_close(struct cuda_event *e)
{
    if (e) cudaEventDestroy((cudaEvent_t)e);
}

void cuda_event_record(struct cuda_event *e, struct cuda_stream *s)
{
    cudaEventRecord((cudaEvent_t)e, stream_of(s));
}

void cuda_event_wait(struct cuda_event *e)
{
    cudaEventSynchronize((cudaEvent_t)e);
}

void cuda_event_await(struct cuda_event *e, struct cuda_stream *s)
{
    cudaStreamWaitEvent(stream_of(s), (cudaEvent_t)e, 0);
}

double cuda_event_seconds(struct cuda_event *begin, struct cuda_event *end)
{
    float milliseconds = 0;
    cudaEventElapsedTime(&milliseconds, (cudaEvent_t)begin, (cudaEvent_t)end);
    return milliseconds / 1e3;
}

// ---- recordings: CUDA graphs ------------------------------------------------------------------------------

// A kernel's first launch loads it, and a recording may have kernels that have not run before: for more rows than the run in front of it had.
// So what the thread does beside the stream is not forbidden meanwhile.
void cuda_record_begin(struct cuda_stream *s)
{
    cudaStreamBeginCapture(stream_of(s), cudaStreamCaptureModeRelaxed);
}

struct cuda_recording *cuda_record_end(struct cuda_stream *s)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t run = NULL;
    if (cudaStreamEndCapture(stream_of(s), &graph) != cudaSuccess || !graph ||
        cudaGraphInstantiate(&run, graph, 0) != cudaSuccess)
        forget_error(); // told to the caller by NULL
    if (graph) cudaGraphDestroy(graph);
    return (struct cuda_recording *)run;
}

void cuda_recording_run(struct cuda_recording *r, struct cuda_stream *s)
{
    cudaGraphLaunch((cudaGraphExec_t)r, stream_of(s));
}

void cuda_recording_free(struct cuda_recording *r)
{
    if (r) cudaGraphExecDestroy((cudaGraphExec_t)r);
}

// ---- kernels that were compiled while the program runs ----------------------------------------------------

struct cuda_kernel {
    cudaLibrary_t library;
    cudaKernel_t code;
};

enum tlm_status cuda_kernel_load(struct cuda_kernel **out, const void *cubin, size_t, const char *name,
                                 struct tlm_error *err)
{
    struct cuda_kernel *k = *out = (struct cuda_kernel *)calloc(1, sizeof *k);
    if (!k) return error_set(err, TLM_ERR_MEMORY, "cuda: no memory for a kernel");
    cudaError_t e = cudaLibraryLoadData(&k->library, cubin, NULL, NULL, 0, NULL, NULL, 0);
    if (!e) e = cudaLibraryGetKernel(&k->code, k->library, name);
    if (!e) return TLM_OK;
    cudaGetLastError(); // told to the caller
    cuda_kernel_unload(k);
    *out = NULL;
    return error_set(err, TLM_ERR_UNSUPPORTED, "cuda: a compiled kernel: %s", cudaGetErrorString(e));
}

void cuda_kernel_unload(struct cuda_kernel *k)
{
    if (k && k->library) cudaLibraryUnload(k->library);
    free(k);
}

const void *cuda_kernel_code(const struct cuda_kernel *k)
{
    return (const void *)k->code;
}
