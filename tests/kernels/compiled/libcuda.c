/* A CUDA driver library without a GPU: it knows one device, takes any module, and writes down every launch.
 *
 * Built by test_cupy_driver.py against the cuda.h that Triton ships, so that a wrong signature does not compile.
 * The launches go to the file named by STUB_LOG, one line each:
 *     launch GRID GRID GRID THREADS SHARED STREAM ARGUMENT ...
 * with the arguments as numbers; STUB_SIZES tells how many bytes each has, as in "8 8 4".
 */
#include "cuda.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int context; /* its address serves as the context, the module and the function */
static int device;

static void note(const char *text) {
  FILE *file = fopen(getenv("STUB_LOG"), "a");
  fputs(text, file);
  fclose(file);
}

CUresult cuInit(unsigned flags) { return CUDA_SUCCESS; }
CUresult cuDriverGetVersion(int *version) { return *version = 12080, CUDA_SUCCESS; }
CUresult cuGetErrorString(CUresult error, const char **text) { return *text = "stub", CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *d, int ordinal) { return *d = ordinal, CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int *count) { return *count = 1, CUDA_SUCCESS; }
CUresult cuCtxGetCurrent(CUcontext *c) { return *c = (CUcontext)&context, CUDA_SUCCESS; }
CUresult cuCtxSetCurrent(CUcontext c) { return CUDA_SUCCESS; }
CUresult cuCtxGetDevice(CUdevice *d) { return *d = device, CUDA_SUCCESS; }
CUresult cuDevicePrimaryCtxRetain(CUcontext *c, CUdevice d) { return *c = (CUcontext)&context, CUDA_SUCCESS; }

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice d) {
  switch (attribute) {
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *value = 9; break;
  case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *value = 0; break;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: *value = 227 << 10; break;
  case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: *value = 228 << 10; break;
  case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK: *value = 65536; break;
  case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = 132; break;
  case CU_DEVICE_ATTRIBUTE_WARP_SIZE: *value = 32; break;
  default: *value = 1;
  }
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
  if (memcmp(image, "\177ELF", 4)) return CUDA_ERROR_INVALID_IMAGE;
  return *module = (CUmodule)&context, CUDA_SUCCESS;
}
CUresult cuModuleGetFunction(CUfunction *f, CUmodule module, const char *name) {
  char line[300];
  snprintf(line, sizeof line, "load %s\n", name);
  note(line);
  return *f = (CUfunction)&context, CUDA_SUCCESS;
}
CUresult cuModuleUnload(CUmodule module) { return CUDA_SUCCESS; }
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction f) {
  *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
  return CUDA_SUCCESS;
}
CUresult cuFuncSetAttribute(CUfunction f, CUfunction_attribute attribute, int value) { return CUDA_SUCCESS; }
CUresult cuFuncSetCacheConfig(CUfunction f, CUfunc_cache config) { return CUDA_SUCCESS; }
CUresult cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr pointer) {
  *(CUdeviceptr *)data = pointer;
  return CUDA_SUCCESS;
}
CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
  return *status = CU_STREAM_CAPTURE_STATUS_NONE, CUDA_SUCCESS;
}
CUresult cuCtxGetLimit(size_t *value, CUlimit limit) { return *value = 0, CUDA_SUCCESS; }
CUresult cuCtxSetLimit(CUlimit limit, size_t value) { return CUDA_SUCCESS; }
CUresult cuOccupancyMaxActiveClusters(int *n, CUfunction f, const CUlaunchConfig *c) { return *n = 1, CUDA_SUCCESS; }

CUresult cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction f, void **parameters, void **extra) {
  char line[2000];
  int used = snprintf(line, sizeof line, "launch %u %u %u %u %u %llu", config->gridDimX, config->gridDimY,
                      config->gridDimZ, config->blockDimX, config->sharedMemBytes,
                      (unsigned long long)config->hStream);
  const char *sizes = getenv("STUB_SIZES");
  for (int i = 0; sizes && *sizes; i++) {
    unsigned long long value = 0;
    char *end;
    memcpy(&value, parameters[i], strtol(sizes, &end, 10));
    used += snprintf(line + used, sizeof line - used, " %llu", value);
    sizes = end;
  }
  snprintf(line + used, sizeof line - used, "\n");
  note(line);
  return CUDA_SUCCESS;
}

/* Only looked for where a kernel uses tensor descriptors, which none here does; linked all the same. */
CUresult cuTensorMapEncodeTiled(CUtensorMap *m, CUtensorMapDataType t, cuuint32_t r, void *a, const cuuint64_t *d,
                                const cuuint64_t *s, const cuuint32_t *b, const cuuint32_t *e,
                                CUtensorMapInterleave i, CUtensorMapSwizzle w, CUtensorMapL2promotion l,
                                CUtensorMapFloatOOBfill o) {
  return CUDA_ERROR_NOT_SUPPORTED;
}
