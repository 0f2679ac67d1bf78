// A parsed program.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tensor.h"

struct Op;

// Region is a function body, or one that an operation like reduce takes. Values are numbered over the whole program.
struct Region {
  std::vector<int> arguments;
  std::vector<Op> ops;
  std::vector<int> returned;
};

using Arguments = std::vector<Tensor>;
using Results = std::vector<Tensor>;

// Op is one operation.
struct Op {
  std::string name;  // without "stablehlo."
  int line = 0;      // in the text
  std::vector<int> operands, results;
  std::vector<Type> operandTypes, resultTypes;
  std::map<std::string, std::string> attributes;  // the text of each
  std::vector<Region> regions;

  bool live = true;           // somebody reads a result
  std::vector<int> lastUses;  // values that nobody reads after this operation
  Tensor constant;            // the value of a constant, made once

  [[noreturn]] void refuse(const std::string& text) const;
  bool has(const std::string& key) const { return attributes.count(key) != 0; }
  const std::string& attribute(const std::string& key) const;
  // The readers of attributes refuse what has not the form that its name says.
  Dims array(const std::string& key) const;                            // array<i64: 0, 1>
  int64_t integer(const std::string& key) const;                       // 1 : i64
  bool truth(const std::string& key) const;                            // true
  std::string word(const std::string& key, const char* kind) const;    // #stablehlo<kind WORD>
  std::string quoted(const std::string& key) const;                    // "..."
  // #stablehlo.form<name = [0, 1], other = 2>, with exactly these fields
  std::map<std::string, Dims> record(const std::string& key, const char* form, const std::vector<const char*>& fields) const;
};

struct Program {
  std::string name, text;
  std::vector<Type> types;  // by value
  Region main;
  std::vector<Type> inputs() const { return typesOf(main.arguments); }
  std::vector<Type> outputs() const { return typesOf(main.returned); }
  std::vector<Type> typesOf(const std::vector<int>& values) const {
    std::vector<Type> all;
    for (int v : values) all.push_back(types[v]);
    return all;
  }
};

Program parse(const std::string& text);  // refuses what is not well-formed
void check(const Program& p);            // refuses what breaks a rule of StableHLO
void plan(Program& p);                   // finds dead operations and last uses
std::string summarize(const Program& p);

// Tensor of a constant's text, dense<...> : tensor<...>.
Tensor dense(const Op& op, const std::shared_ptr<Ledger>& ledger);
