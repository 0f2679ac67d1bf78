#include "tensor.h"

#include <sstream>

void refuse(const std::string& text) { throw Failure(PJRT_Error_Code_INVALID_ARGUMENT, text); }

namespace {
struct Entry {
  Kind kind;
  const char* name;
  int64_t bytes;
  PJRT_Buffer_Type pjrt;
};

const Entry entries[] = {
    {Kind::f64, "f64", 8, PJRT_Buffer_Type_F64}, {Kind::f32, "f32", 4, PJRT_Buffer_Type_F32},
    {Kind::bf16, "bf16", 2, PJRT_Buffer_Type_BF16}, {Kind::f16, "f16", 2, PJRT_Buffer_Type_F16},
    {Kind::i64, "i64", 8, PJRT_Buffer_Type_S64}, {Kind::i32, "i32", 4, PJRT_Buffer_Type_S32},
    {Kind::i16, "i16", 2, PJRT_Buffer_Type_S16}, {Kind::i8, "i8", 1, PJRT_Buffer_Type_S8},
    {Kind::u64, "ui64", 8, PJRT_Buffer_Type_U64}, {Kind::u32, "ui32", 4, PJRT_Buffer_Type_U32},
    {Kind::u16, "ui16", 2, PJRT_Buffer_Type_U16}, {Kind::u8, "ui8", 1, PJRT_Buffer_Type_U8},
    {Kind::i1, "i1", 1, PJRT_Buffer_Type_PRED},
};

const Entry& entry(Kind k) { return entries[int(k)]; }
}  // namespace

int64_t bytesOf(Kind k) { return entry(k).bytes; }
const char* nameOf(Kind k) { return entry(k).name; }
PJRT_Buffer_Type pjrtType(Kind k) { return entry(k).pjrt; }

bool kindNamed(const std::string& name, Kind* k) {
  for (const Entry& e : entries)
    if (name == e.name) {
      *k = e.kind;
      return true;
    }
  return false;
}

bool kindOfPjrt(PJRT_Buffer_Type t, Kind* k) {
  for (const Entry& e : entries)
    if (t == e.pjrt) {
      *k = e.kind;
      return true;
    }
  return false;
}

int64_t Type::size() const {
  int64_t n = 1;
  for (int64_t d : dims) n *= d;
  return n;
}

int64_t Type::bytes() const { return size() * bytesOf(kind); }

std::string text(const Dims& dims) {
  std::ostringstream out;
  out << "[";
  for (size_t i = 0; i < dims.size(); i++) out << (i ? ", " : "") << dims[i];
  out << "]";
  return out.str();
}

std::string text(const Type& t) {
  std::ostringstream out;
  out << "tensor<";
  for (int64_t d : t.dims) out << d << "x";
  out << nameOf(t.kind) << ">";
  return out.str();
}

Dims rowMajor(const Dims& dims) {
  Dims stride(dims.size(), 1);
  for (int64_t i = int64_t(dims.size()) - 2; i >= 0; i--) stride[i] = stride[i + 1] * dims[i + 1];
  return stride;
}

void Ledger::take(int64_t bytes) {
  std::lock_guard<std::mutex> lock(mu);
  if (limit > 0 && b.now + bytes > limit)
    throw Failure(PJRT_Error_Code_RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED: Out of memory while trying to allocate " +
                                                          std::to_string(bytes) + " bytes.");
  b.now += bytes;
  b.peak = std::max(b.peak, b.now);
}

void Ledger::give(int64_t bytes) {
  std::lock_guard<std::mutex> lock(mu);
  b.now -= bytes;
}

void Ledger::hold(int64_t bytes) {
  std::lock_guard<std::mutex> lock(mu);
  buffers++;
  b.held += bytes;
  b.heldPeak = std::max(b.heldPeak, b.held);
}

void Ledger::drop(int64_t bytes) {
  std::lock_guard<std::mutex> lock(mu);
  buffers--;
  b.held -= bytes;
}

Ledger::Bytes Ledger::bytes() {
  std::lock_guard<std::mutex> lock(mu);
  return b;
}

Storage::Storage(std::shared_ptr<Ledger> l, int64_t n) : ledger(std::move(l)), bytes(n) {
  ledger->take(bytes);
  words.reset(new uint64_t[bytes / 8 + 1]);
}

Storage::~Storage() { ledger->give(bytes); }

Tensor make(const std::shared_ptr<Ledger>& ledger, const Type& type) {
  return Tensor{type, std::make_shared<Storage>(ledger, type.bytes())};
}
