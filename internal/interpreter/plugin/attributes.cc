// Readers of attributes and of literals.
#include <cstdlib>
#include <cctype>

#include "program.h"

namespace {

// Reader goes through the text of one attribute.
struct Reader {
  const Op& op;
  const std::string& key;
  const std::string& s;
  size_t at = 0;

  Reader(const Op& o, const std::string& k) : op(o), key(k), s(o.attribute(k)) {}

  [[noreturn]] void refuse(const std::string& what) { op.refuse("attribute " + key + ": " + what + " in " + s.substr(0, 200)); }
  void space() {
    while (at < s.size() && std::isspace((unsigned char)s[at])) at++;
  }
  bool take(const std::string& t) {
    space();
    if (s.compare(at, t.size(), t) != 0) return false;
    at += t.size();
    return true;
  }
  void want(const std::string& t) {
    if (!take(t)) refuse("no '" + t + "' at character " + std::to_string(at));
  }
  void end() {
    space();
    if (at != s.size()) refuse("more than expected");
  }
  // token is what lies before the next separator.
  std::string token() {
    space();
    size_t from = at;
    while (at < s.size() && !std::isspace((unsigned char)s[at]) && !strchr(",<>[]:=", s[at])) at++;
    if (from == at) refuse("nothing at character " + std::to_string(at));
    return s.substr(from, at - from);
  }
  int64_t number() {
    std::string t = token();
    char* rest;
    long long n = std::strtoll(t.c_str(), &rest, 10);
    if (*rest) refuse("no number: " + t);
    return n;
  }
  Dims numbers(const std::string& close) {
    Dims all;
    if (take(close)) return all;
    do all.push_back(number());
    while (take(","));
    want(close);
    return all;
  }
};

}  // namespace

void Op::refuse(const std::string& text) const {
  ::refuse("line " + std::to_string(line) + ": " + name + ": " + text);
}

const std::string& Op::attribute(const std::string& key) const {
  auto found = attributes.find(key);
  if (found == attributes.end()) refuse("lacks the attribute " + key);
  return found->second;
}

Dims Op::array(const std::string& key) const {
  Reader r(*this, key);
  r.want("array<i64");
  Dims all;
  if (!r.take(">")) {
    r.want(":");
    all = r.numbers(">");
  }
  r.end();
  return all;
}

int64_t Op::integer(const std::string& key) const {
  Reader r(*this, key);
  int64_t n = r.number();
  r.want(":");
  if (std::string t = r.token(); t != "i64" && t != "i32") r.refuse("type " + t);
  r.end();
  return n;
}

bool Op::truth(const std::string& key) const {
  const std::string& s = attribute(key);
  if (s != "true" && s != "false") refuse("attribute " + key + " is neither true nor false: " + s);
  return s == "true";
}

std::string Op::word(const std::string& key, const char* kind) const {
  Reader r(*this, key);
  r.want("#stablehlo<");
  r.want(kind);
  std::string w = r.token();
  r.want(">");
  r.end();
  return w;
}

std::string Op::quoted(const std::string& key) const {
  const std::string& s = attribute(key);
  if (s.size() < 2 || s.front() != '"' || s.back() != '"') refuse("attribute " + key + " is no string: " + s);
  std::string out;
  for (size_t i = 1; i + 1 < s.size(); i++) {
    if (s[i] == '\\' && (s[i + 1] == '"' || s[i + 1] == '\\')) i++;
    else if (s[i] == '\\') refuse("attribute " + key + " has an escape other than \\\" and \\\\");
    out += s[i];
  }
  return out;
}

std::map<std::string, Dims> Op::record(const std::string& key, const char* form,
                                       const std::vector<const char*>& fields) const {
  Reader r(*this, key);
  r.want(std::string("#stablehlo.") + form + "<");
  std::map<std::string, Dims> all;
  do {
    std::string field = r.token();
    r.want("=");
    if (all.count(field)) r.refuse("field " + field + " twice");
    all[field] = r.take("[") ? r.numbers("]") : Dims{r.number()};
  } while (r.take(","));
  r.want(">");
  r.end();
  for (const char* f : fields)
    if (!all.count(f)) r.refuse(std::string("no field ") + f);
  if (all.size() != fields.size()) r.refuse("more fields than are known");
  return all;
}

namespace {

// isFloatLiteral is MLIR's rule: digits, a point, digits, an exponent.
bool isFloatLiteral(const std::string& t) {
  size_t i = t[0] == '-' || t[0] == '+', from = i;
  while (i < t.size() && std::isdigit((unsigned char)t[i])) i++;
  if (i == from || i == t.size() || t[i] != '.') return false;
  for (i++; i < t.size() && std::isdigit((unsigned char)t[i]);) i++;
  if (i < t.size() && (t[i] == 'e' || t[i] == 'E')) {
    i += 1 + (i + 1 < t.size() && (t[i + 1] == '-' || t[i + 1] == '+'));
    from = i;
    while (i < t.size() && std::isdigit((unsigned char)t[i])) i++;
    if (i == from) return false;
  }
  return i == t.size();
}

// element reads one element of a literal into place.
void element(Reader& r, Kind kind, uint8_t* place) {
  std::string t = r.token();
  char* rest;
  if (t.compare(0, 2, "0x") == 0 && isFloat(kind)) {  // the bits themselves
    uint64_t bits = std::strtoull(t.c_str(), &rest, 16);
    if (bytesOf(kind) < 8 && bits >> (8 * bytesOf(kind)) != 0) r.refuse("too many bits: " + t);
    std::memcpy(place, &bits, bytesOf(kind));
    return;
  }
  if (isFloat(kind)) {
    if (!isFloatLiteral(t)) r.refuse("no literal of a floating-point number: " + t);
    double x = std::strtod(t.c_str(), &rest);
    withFloat(kind, [&](auto as) {
      using T = typename decltype(as)::type;
      *reinterpret_cast<T*>(place) = T(Wide<T>(x));
    });
    return;
  }
  if (kind == Kind::i1) {
    if (t != "true" && t != "false") r.refuse("neither true nor false: " + t);
    *place = t == "true";
    return;
  }
  withInteger(kind, [&](auto as) {
    using T = typename decltype(as)::type;
    T x = isSigned(kind) ? T(std::strtoll(t.c_str(), &rest, 10)) : T(std::strtoull(t.c_str(), &rest, 10));
    if (*rest || (!isSigned(kind) && t[0] == '-') || std::to_string(x) != t) r.refuse("no " + std::string(nameOf(kind)) + ": " + t);
    std::memcpy(place, &x, sizeof x);
  });
}

uint8_t* elements(Reader& r, const Type& type, size_t dim, uint8_t* place) {
  if (dim == type.dims.size()) {
    element(r, type.kind, place);
    return place + bytesOf(type.kind);
  }
  r.want("[");
  for (int64_t i = 0; i < type.dims[dim]; i++) {
    if (i) r.want(",");
    place = elements(r, type, dim + 1, place);
  }
  r.want("]");
  return place;
}

}  // namespace

Tensor dense(const Op& op, const std::shared_ptr<Ledger>& ledger) {
  const Type& type = op.resultTypes.at(0);
  Tensor t = make(ledger, type);
  Reader r(op, "value");
  r.want("dense<");
  if (type.size() > 0) elements(r, type, 0, t.raw());
  r.want(">");
  r.want(":");
  r.want(text(type));
  r.end();
  return t;
}
