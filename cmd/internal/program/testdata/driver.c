// What of NVIDIA's driver library is called: INIT is the error with which it starts, COUNT the number of devices and
// VERSION the CUDA version it supports.
#include <string.h>

int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int* count) {
  *count = COUNT;
  return 0;
}
int cuDriverGetVersion(int* version) {
  *version = VERSION;
  return 0;
}
int cuDeviceGetName(char* name, int size, int device) {
  strncpy(name, "NVIDIA Test", size);
  return 0;
}
int cuGetErrorName(int code, const char** name) {
  *name = "CUDA_ERROR_TEST";
  return 0;
}
