// The PJRT C API, as far as go-xla v0.4.2 calls it. Everything is done when a function returns: events are there and have
// always happened.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <new>
#include <sstream>

#include "evaluate.h"

struct PJRT_Error {
  PJRT_Error_Code code;
  std::string text;
};
struct PJRT_Event {};
struct PJRT_DeviceDescription {
  PJRT_Client* client;
  std::string text;  // made anew when it is asked for
};
struct PJRT_Device {
  PJRT_Client* client;
  PJRT_DeviceDescription description;
};
struct PJRT_Client {
  Books books = std::make_shared<Ledger>();
  std::string dump;  // a directory, or ""
  int64_t runs = 0;  // calls that run their program, after which all others return zeros; 0 for all
  std::mutex mu;     // of the files in it, and of the description
  PJRT_Device device;
  PJRT_Device* devices[1];
};
struct PJRT_Executable {
  std::shared_ptr<Program> program;
};
struct PJRT_LoadedExecutable {
  PJRT_Client* client;
  std::shared_ptr<Program> program;
};
struct PJRT_Buffer {
  PJRT_Client* client;
  Tensor tensor;
  bool donated = false;
};

namespace {

// guarded runs the body of an API function and turns what it throws into an error.
template <class F> PJRT_Error* guarded(F f) {
  try {
    f();
    return nullptr;
  } catch (const Failure& e) {
    return new PJRT_Error{e.code, e.what()};
  } catch (const std::bad_alloc&) {
    return new PJRT_Error{PJRT_Error_Code_RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED: the host is out of memory"};
  } catch (const std::exception& e) {
    return new PJRT_Error{PJRT_Error_Code_INTERNAL, std::string("interpreter: ") + e.what()};
  }
}

PJRT_Error* unimplemented(void*) {
  return new PJRT_Error{PJRT_Error_Code_UNIMPLEMENTED, "interpreter: this function of the PJRT API is not implemented"};
}

const char* variable(const char* name) {
  const char* v = std::getenv(name);
  return v ? v : "";
}

// Errors, events, the plugin.

void errorDestroy(PJRT_Error_Destroy_Args* a) { delete a->error; }
void errorMessage(PJRT_Error_Message_Args* a) {
  a->message = a->error->text.c_str();
  a->message_size = a->error->text.size();
}
PJRT_Error* errorCode(PJRT_Error_GetCode_Args* a) {
  a->code = a->error->code;
  return nullptr;
}
PJRT_Error* initialize(PJRT_Plugin_Initialize_Args*) { return nullptr; }
PJRT_Error* attributes(PJRT_Plugin_Attributes_Args* a) {
  a->attributes = nullptr;
  a->num_attributes = 0;
  return nullptr;
}
PJRT_Error* eventDestroy(PJRT_Event_Destroy_Args* a) {
  delete a->event;
  return nullptr;
}
PJRT_Error* eventAwait(PJRT_Event_Await_Args*) { return nullptr; }

// The client and its one device.

PJRT_Error* clientCreate(PJRT_Client_Create_Args* a) {
  return guarded([&] {
    auto* c = new PJRT_Client;
    c->dump = variable("INTERPRETER_DUMP");
    c->runs = std::atoll(variable("INTERPRETER_RUNS"));
    c->books->limit = std::atoll(variable("INTERPRETER_MEMORY"));
    c->device = {c, {c, ""}};
    c->devices[0] = &c->device;
    a->client = c;
  });
}
PJRT_Error* clientDestroy(PJRT_Client_Destroy_Args* a) {
  delete a->client;
  return nullptr;
}
PJRT_Error* platformName(PJRT_Client_PlatformName_Args* a) {
  a->platform_name = "interpreter";
  a->platform_name_size = 11;
  return nullptr;
}
PJRT_Error* platformVersion(PJRT_Client_PlatformVersion_Args* a) {
  a->platform_version = "1";
  a->platform_version_size = 1;
  return nullptr;
}
PJRT_Error* processIndex(PJRT_Client_ProcessIndex_Args* a) {
  a->process_index = 0;
  return nullptr;
}
PJRT_Error* devices(PJRT_Client_Devices_Args* a) {
  a->devices = a->client->devices;
  a->num_devices = 1;
  return nullptr;
}
PJRT_Error* addressableDevices(PJRT_Client_AddressableDevices_Args* a) {
  a->addressable_devices = a->client->devices;
  a->num_addressable_devices = 1;
  return nullptr;
}
PJRT_Error* deviceDescription(PJRT_Device_GetDescription_Args* a) {
  a->device_description = &a->device->description;
  return nullptr;
}
PJRT_Error* isAddressable(PJRT_Device_IsAddressable_Args* a) {
  a->is_addressable = true;
  return nullptr;
}
PJRT_Error* hardwareId(PJRT_Device_LocalHardwareId_Args* a) {
  a->local_hardware_id = 0;
  return nullptr;
}
PJRT_Error* descriptionProcess(PJRT_DeviceDescription_ProcessIndex_Args* a) {
  a->process_index = 0;
  return nullptr;
}

// debugString tells the books: go-xla has no other way to what a plugin counts.
PJRT_Error* debugString(PJRT_DeviceDescription_DebugString_Args* a) {
  return guarded([&] {
    PJRT_DeviceDescription* d = a->device_description;
    Ledger& books = *d->client->books;
    Ledger::Bytes b = books.bytes();
    std::ostringstream out;
    out << "interpreter of StableHLO, buffers " << books.buffers << " bytes " << b.held << " peak " << b.heldPeak << " peak-with-temporaries "
        << b.peak << " programs " << books.programs << " calls " << books.calls << " reads " << books.reads
        << " unordered " << books.unordered;
    std::lock_guard<std::mutex> lock(d->client->mu);
    d->text = out.str();
    a->debug_string = d->text.c_str();
    a->debug_string_size = d->text.size();
  });
}

// Buffers.

PJRT_Buffer* hold(PJRT_Client* c, const Tensor& t) {
  c->books->hold(t.type.bytes());
  return new PJRT_Buffer{c, t};
}

void letGo(PJRT_Buffer* b) {
  if (b->tensor.storage) b->client->books->drop(b->tensor.type.bytes());
  b->tensor.storage.reset();
}

const Tensor& valid(PJRT_Buffer* b) {
  if (b == nullptr) refuse("no buffer");
  if (b->donated) refuse("the buffer has been donated");
  return b->tensor;
}

PJRT_Error* fromHost(PJRT_Client_BufferFromHostBuffer_Args* a) {
  return guarded([&] {
    Type type;
    if (!kindOfPjrt(a->type, &type.kind)) refuse("element type " + std::to_string(a->type) + " is not known");
    if (a->num_byte_strides != 0 || a->device_layout != nullptr || a->memory != nullptr) refuse("only dense row-major buffers are known");
    type.dims.assign(a->dims, a->dims + a->num_dims);
    Tensor t = make(a->client->books, type);
    if (type.bytes() > 0) std::memcpy(t.raw(), a->data, type.bytes());
    a->buffer = hold(a->client, t);
    a->done_with_host_buffer = new PJRT_Event;
  });
}

PJRT_Error* toHost(PJRT_Buffer_ToHostBuffer_Args* a) {
  return guarded([&] {
    const Tensor& t = valid(a->src);
    size_t bytes = t.type.bytes();
    if (a->dst == nullptr) {
      a->dst_size = bytes;
      return;
    }
    if (a->dst_size != bytes) refuse("the host has room for " + std::to_string(a->dst_size) + " bytes, the buffer " + std::to_string(bytes));
    if (bytes > 0) std::memcpy(a->dst, t.raw(), bytes);
    a->src->client->books->reads++;
    a->event = new PJRT_Event;
  });
}

PJRT_Error* bufferDestroy(PJRT_Buffer_Destroy_Args* a) {
  letGo(a->buffer);
  delete a->buffer;
  return nullptr;
}
PJRT_Error* elementType(PJRT_Buffer_ElementType_Args* a) {
  return guarded([&] { a->type = pjrtType(valid(a->buffer).type.kind); });
}
PJRT_Error* dimensions(PJRT_Buffer_Dimensions_Args* a) {
  return guarded([&] {
    const Dims& d = valid(a->buffer).type.dims;
    a->dims = d.data();
    a->num_dims = d.size();
  });
}
PJRT_Error* bufferDevice(PJRT_Buffer_Device_Args* a) {
  a->device = &a->buffer->client->device;
  return nullptr;
}

// Programs.

void makeConstants(Region& r, const Books& books) {
  for (Op& op : r.ops) {
    if (op.name == "constant") op.constant = dense(op, books);
    for (Region& inner : op.regions) makeConstants(inner, books);
  }
}

void dump(PJRT_Client* c, const Program& p, int64_t number) {
  if (c->dump.empty()) return;
  std::lock_guard<std::mutex> lock(c->mu);
  char digits[16];
  std::snprintf(digits, sizeof digits, "%04d", int(number));
  std::ofstream(c->dump + "/" + digits + "-" + p.name.substr(0, 100) + ".mlir") << p.text;
  std::ofstream(c->dump + "/programs.txt", std::ios::app) << digits << " " << summarize(p) << "\n";
}

PJRT_Error* compile(PJRT_Client_Compile_Args* a) {
  return guarded([&] {
    std::string format(a->program->format, a->program->format_size);
    if (format != "mlir") refuse("programs in the format " + format + " are not known");
    auto p = std::make_shared<Program>(parse(std::string(a->program->code, a->program->code_size)));
    check(*p);
    plan(*p);
    makeConstants(p->main, a->client->books);
    dump(a->client, *p, ++a->client->books->programs);
    a->executable = new PJRT_LoadedExecutable{a->client, p};
  });
}

PJRT_Error* loadedDestroy(PJRT_LoadedExecutable_Destroy_Args* a) {
  delete a->executable;
  return nullptr;
}
PJRT_Error* getExecutable(PJRT_LoadedExecutable_GetExecutable_Args* a) {
  a->executable = new PJRT_Executable{a->loaded_executable->program};
  return nullptr;
}
PJRT_Error* executableDestroy(PJRT_Executable_Destroy_Args* a) {
  delete a->executable;
  return nullptr;
}
PJRT_Error* executableName(PJRT_Executable_Name_Args* a) {
  a->executable_name = a->executable->program->name.c_str();
  a->executable_name_size = a->executable->program->name.size();
  return nullptr;
}
PJRT_Error* numOutputs(PJRT_Executable_NumOutputs_Args* a) {
  a->num_outputs = a->executable->program->main.returned.size();
  return nullptr;
}
PJRT_Error* memoryStats(PJRT_Executable_GetCompiledMemoryStats_Args* a) {
  for (const Type& t : a->executable->program->inputs()) a->argument_size_in_bytes += t.bytes();
  for (const Type& t : a->executable->program->outputs()) a->output_size_in_bytes += t.bytes();
  return nullptr;
}

// donatedOf are the arguments that a call gives away, each of which may be passed but once.
std::vector<PJRT_Buffer*> donatedOf(PJRT_LoadedExecutable_Execute_Args* a) {
  PJRT_Buffer* const* list = a->num_args ? a->argument_lists[0] : nullptr;
  const int64_t *kept = a->options->non_donatable_input_indices, *end = kept + a->options->num_non_donatable_input_indices;
  std::vector<PJRT_Buffer*> donated;
  for (size_t i = 0; i < a->num_args; i++) {
    if (std::find(kept, end, int64_t(i)) != end) continue;
    if (std::count(list, list + a->num_args, list[i]) != 1) refuse("argument " + std::to_string(i) + " is donated and passed twice");
    donated.push_back(list[i]);
  }
  return donated;
}

// blank are results of a program that was not run: zeros.
Results blank(const Program& p, const Books& books) {
  Results out;
  for (const Type& t : p.outputs()) {
    out.push_back(make(books, t));
    std::memset(out.back().raw(), 0, t.bytes());
  }
  return out;
}

PJRT_Error* execute(PJRT_LoadedExecutable_Execute_Args* a) {
  return guarded([&] {
    const Program& p = *a->executable->program;
    std::vector<Type> want = p.inputs();
    if (a->num_devices != 1) refuse("there is one device");
    if (a->num_args != want.size()) refuse(p.name + " takes " + std::to_string(want.size()) + " arguments, got " + std::to_string(a->num_args));
    Arguments in;
    for (size_t i = 0; i < want.size(); i++) {
      const Tensor& t = valid(a->argument_lists[0][i]);
      if (t.type != want[i]) refuse(p.name + ": argument " + std::to_string(i) + " is " + text(t.type) + ", want " + text(want[i]));
      in.push_back(t);
    }
    std::vector<PJRT_Buffer*> donated = donatedOf(a);
    Books books = a->executable->client->books;
    const int64_t runs = a->executable->client->runs;
    Results out = runs > 0 && books->calls >= runs ? blank(p, books) : run(p, std::move(in), books);
    books->calls++;
    for (PJRT_Buffer* b : donated) {
      letGo(b);
      b->donated = true;
    }
    for (size_t i = 0; i < out.size(); i++) {
      Tensor t = out[i];
      if (t.storage.use_count() > 2) {  // shared with an argument, a constant or another result
        t = make(books, out[i].type);
        std::memcpy(t.raw(), out[i].raw(), t.type.bytes());
      }
      a->output_lists[0][i] = hold(a->executable->client, t);
    }
    if (a->device_complete_events) a->device_complete_events[0] = new PJRT_Event;
  });
}

PJRT_Api table() {
  PJRT_Api api;
  auto* begin = reinterpret_cast<void**>(&api.PJRT_Error_Destroy);
  auto* end = reinterpret_cast<void**>(&api + 1);
  std::fill(begin, end, reinterpret_cast<void*>(unimplemented));
  api.struct_size = PJRT_Api_STRUCT_SIZE;
  api.extension_start = nullptr;
  api.pjrt_api_version = {PJRT_Api_Version_STRUCT_SIZE, nullptr, PJRT_API_MAJOR, PJRT_API_MINOR};
  api.PJRT_Error_Destroy = errorDestroy;
  api.PJRT_Error_Message = errorMessage;
  api.PJRT_Error_GetCode = errorCode;
  api.PJRT_Plugin_Initialize = initialize;
  api.PJRT_Plugin_Attributes = attributes;
  api.PJRT_Event_Destroy = eventDestroy;
  api.PJRT_Event_Await = eventAwait;
  api.PJRT_Client_Create = clientCreate;
  api.PJRT_Client_Destroy = clientDestroy;
  api.PJRT_Client_PlatformName = platformName;
  api.PJRT_Client_PlatformVersion = platformVersion;
  api.PJRT_Client_ProcessIndex = processIndex;
  api.PJRT_Client_Devices = devices;
  api.PJRT_Client_AddressableDevices = addressableDevices;
  api.PJRT_Client_BufferFromHostBuffer = fromHost;
  api.PJRT_Client_Compile = compile;
  api.PJRT_Device_GetDescription = deviceDescription;
  api.PJRT_Device_IsAddressable = isAddressable;
  api.PJRT_Device_LocalHardwareId = hardwareId;
  api.PJRT_DeviceDescription_ProcessIndex = descriptionProcess;
  api.PJRT_DeviceDescription_DebugString = debugString;
  api.PJRT_Buffer_Destroy = bufferDestroy;
  api.PJRT_Buffer_ElementType = elementType;
  api.PJRT_Buffer_Dimensions = dimensions;
  api.PJRT_Buffer_ToHostBuffer = toHost;
  api.PJRT_Buffer_Device = bufferDevice;
  api.PJRT_LoadedExecutable_Destroy = loadedDestroy;
  api.PJRT_LoadedExecutable_GetExecutable = getExecutable;
  api.PJRT_LoadedExecutable_Execute = execute;
  api.PJRT_Executable_Destroy = executableDestroy;
  api.PJRT_Executable_Name = executableName;
  api.PJRT_Executable_NumOutputs = numOutputs;
  api.PJRT_Executable_GetCompiledMemoryStats = memoryStats;
  return api;
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const PJRT_Api* GetPjrtApi() {
  static const PJRT_Api api = table();
  return &api;
}
