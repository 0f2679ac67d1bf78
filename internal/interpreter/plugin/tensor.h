// Types and tensors, and the books of the memory that tensors take.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "number.h"
#include "pjrt_c_api.h"

// Failure is an error on its way to the caller of the PJRT function in which it happened.
struct Failure : std::runtime_error {
  PJRT_Error_Code code;
  Failure(PJRT_Error_Code c, const std::string& text) : std::runtime_error(text), code(c) {}
};

[[noreturn]] void refuse(const std::string& text);  // an argument, or a program, that is wrong

using Dims = std::vector<int64_t>;

struct Type {
  Kind kind = Kind::f32;
  Dims dims;
  int64_t rank() const { return int64_t(dims.size()); }
  int64_t size() const;   // elements
  int64_t bytes() const;  // packed, row-major
  bool operator==(const Type& o) const { return kind == o.kind && dims == o.dims; }
  bool operator!=(const Type& o) const { return !(*this == o); }
};

int64_t bytesOf(Kind k);
const char* nameOf(Kind k);
bool kindNamed(const std::string& name, Kind* k);
PJRT_Buffer_Type pjrtType(Kind k);
bool kindOfPjrt(PJRT_Buffer_Type t, Kind* k);
std::string text(const Dims& d);  // [2, 3]
std::string text(const Type& t);  // tensor<2x3xf32>

Dims rowMajor(const Dims& dims);  // the stride of each dimension, in elements

// Ledger counts the memory of a client. What is taken beyond the limit is refused as a device would refuse it.
struct Ledger {
  int64_t limit = 0;  // bytes, 0 for none
  std::atomic<int64_t> buffers{0}, programs{0}, calls{0}, reads{0};
  std::atomic<int64_t> unordered{0};  // elements that scatters made of three numbers or more, whose sum depends on the order
  void take(int64_t bytes);
  void give(int64_t bytes);
  void hold(int64_t bytes);  // a buffer begins to be held between calls
  void drop(int64_t bytes);
  struct Bytes { int64_t now, peak, held, heldPeak; };
  Bytes bytes();

 private:
  std::mutex mu;
  Bytes b{0, 0, 0, 0};
};

// Storage is memory on the books.
struct Storage {
  Storage(std::shared_ptr<Ledger> ledger, int64_t bytes);
  ~Storage();
  Storage(const Storage&) = delete;
  std::shared_ptr<Ledger> ledger;
  int64_t bytes;
  std::unique_ptr<uint64_t[]> words;
};

// Tensor is a type and its elements, row-major. Tensors that differ in shape only may share them.
struct Tensor {
  Type type;
  std::shared_ptr<Storage> storage;
  template <class T> T* as() const { return reinterpret_cast<T*>(storage->words.get()); }
  uint8_t* raw() const { return as<uint8_t>(); }
};

Tensor make(const std::shared_ptr<Ledger>& ledger, const Type& type);
