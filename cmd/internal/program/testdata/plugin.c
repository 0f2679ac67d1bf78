// A PJRT plugin that loads and then fails: MAJOR, MINOR and TABLE are what it says of itself, MESSAGE is the error with
// which it makes no client. xla_test.go compiles it against go-xla's pjrt_c_api.h.
#include <stdio.h>
#include <string.h>

#include "pjrt_c_api.h"

#ifndef TABLE
#define TABLE sizeof(PJRT_Api)
#endif
#ifndef MESSAGE
#define MESSAGE "nothing"
#endif

struct PJRT_Error {
  int unused;
};
static struct PJRT_Error failure;

static void error_destroy(PJRT_Error_Destroy_Args* args) {}

static void error_message(PJRT_Error_Message_Args* args) {
  args->message = MESSAGE;
  args->message_size = strlen(MESSAGE);
}

static PJRT_Error* error_code(PJRT_Error_GetCode_Args* args) {
  args->code = PJRT_Error_Code_INTERNAL;
  return 0;
}

static PJRT_Error* initialize(PJRT_Plugin_Initialize_Args* args) { return 0; }

static PJRT_Error* attributes(PJRT_Plugin_Attributes_Args* args) {
  args->attributes = 0;
  args->num_attributes = 0;
  return 0;
}

static PJRT_Error* create(PJRT_Client_Create_Args* args) { return &failure; }

const PJRT_Api* GetPjrtApi(void) {
  static PJRT_Api api;
  api.struct_size = TABLE;
  api.pjrt_api_version.struct_size = sizeof(PJRT_Api_Version);
  api.pjrt_api_version.major_version = MAJOR;
  api.pjrt_api_version.minor_version = MINOR;
  api.PJRT_Error_Destroy = error_destroy;
  api.PJRT_Error_Message = error_message;
  api.PJRT_Error_GetCode = error_code;
  api.PJRT_Plugin_Initialize = initialize;
  api.PJRT_Plugin_Attributes = attributes;
  api.PJRT_Client_Create = create;
  return &api;
}

// What the constants in pjrt.go must be.
int main(void) {
  printf("%d %zu", PJRT_API_MINOR, offsetof(PJRT_Api, PJRT_Executable_GetCompiledMemoryStats) + sizeof(void*));
  return 0;
}
