// The text of StableHLO in MLIR's generic form, as go-xla writes it:
//
//   module @name {
//     func.func @main(%arg0: tensor<2xf32>) -> tensor<2xf32> {
//       %0 = "stablehlo.add"(%arg0, %arg0) : (tensor<2xf32>, tensor<2xf32>) -> tensor<2xf32>
//       "stablehlo.return"(%0) : (tensor<2xf32>) -> ()
//     }
//   }
#include <cctype>

#include "program.h"

namespace {

class Parser {
 public:
  explicit Parser(const std::string& text) : s(text) { scopes.emplace_back(); }

  Program module() {
    want("module");
    p.name = symbol();
    want("{");
    want("func.func");
    if (std::string f = symbol(); f != "main") refuse("function " + f + ": only main is known");
    parameters(p.main);
    want("->");
    std::vector<Type> declared;
    if (take("(")) {
      do declared.push_back(type());
      while (take(","));
      want(")");
    } else {
      declared.push_back(type());
    }
    want("{");
    body(p.main);
    want("}");
    want("}");
    space();
    if (at != s.size()) refuse("more after the module");
    if (p.outputs() != declared) refuse("main returns other types than it declares");
    return std::move(p);
  }

 private:
  const std::string& s;
  size_t at = 0, counted = 0;
  int line = 1;
  Program p;
  std::vector<std::map<std::string, int>> scopes;  // what a name means; the innermost last

  [[noreturn]] void refuse(const std::string& what) {
    ::refuse("line " + std::to_string(lineHere()) + ": " + what + " before: " + s.substr(at, 60));
  }
  int lineHere() {
    for (; counted < at; counted++) line += s[counted] == '\n';
    return line;
  }
  void space() {
    while (at < s.size() && std::isspace((unsigned char)s[at])) at++;
  }
  bool peek(const char* t) {
    space();
    return s.compare(at, strlen(t), t) == 0;
  }
  bool take(const char* t) {
    if (!peek(t)) return false;
    at += strlen(t);
    return true;
  }
  void want(const char* t) {
    if (!take(t)) refuse(std::string("no '") + t + "'");
  }
  std::string identifier() {
    size_t from = at;
    while (at < s.size() && (std::isalnum((unsigned char)s[at]) || s[at] == '_' || s[at] == '.')) at++;
    if (from == at) refuse("no name");
    return s.substr(from, at - from);
  }
  std::string symbol() {
    want("@");
    return identifier();
  }

  Type type() {
    want("tensor<");
    Type t;
    while (std::isdigit((unsigned char)s[at])) {
      int64_t d = 0;
      for (; std::isdigit((unsigned char)s[at]); at++) d = 10 * d + (s[at] - '0');
      if (s[at++] != 'x') refuse("no x after a dimension");
      t.dims.push_back(d);
    }
    std::string kind = identifier();
    if (!kindNamed(kind, &t.kind)) refuse("element type " + kind + " is not known");
    want(">");
    return t;
  }

  // define makes a value. A name may not be hidden by another in a region inside.
  int define(const std::string& name) {
    for (auto& scope : scopes)
      if (scope.count(name)) refuse("%" + name + " is defined twice");
    p.types.emplace_back();
    return scopes.back()[name] = int(p.types.size()) - 1;
  }

  int use() {
    want("%");
    std::string name = identifier();
    for (size_t i = scopes.size(); i-- > 0;)
      if (auto found = scopes[i].find(name); found != scopes[i].end()) return found->second;
    refuse("%" + name + " is used before it is defined");
  }

  void parameters(Region& r) {
    want("(");
    if (take(")")) return;
    do {
      want("%");
      int v = define(identifier());
      want(":");
      p.types[v] = type();
      if (peek("{")) refuse("attributes of arguments are not known (such as for aliasing or sharding)");
      r.arguments.push_back(v);
    } while (take(","));
    want(")");
  }

  // body reads operations up to and with the return.
  void body(Region& r) {
    for (;;) {
      Op op = operation();
      if (op.name == "return") {
        if (!op.results.empty()) refuse("return has results");
        r.returned = op.operands;
        return;
      }
      r.ops.push_back(std::move(op));
    }
  }

  Op operation() {
    Op op;
    std::vector<std::string> names;
    space();
    op.line = lineHere();
    if (peek("%")) {
      do {
        want("%");
        names.push_back(identifier());
      } while (take(","));
      want("=");
    }
    want("\"stablehlo.");
    op.name = identifier();
    want("\"");
    want("(");
    if (!take(")")) {
      do op.operands.push_back(use());
      while (take(","));
      want(")");
    }
    if (take("(")) regions(op);
    if (take("{")) attributes(op);
    signature(op);
    if (names.size() != op.resultTypes.size()) op.refuse("other number of results than types");
    for (size_t i = 0; i < names.size(); i++) {
      op.results.push_back(define(names[i]));
      p.types[op.results[i]] = op.resultTypes[i];
    }
    return op;
  }

  void regions(Op& op) {
    do {
      want("{");
      want("^");
      identifier();
      scopes.emplace_back();
      Region r;
      parameters(r);
      want(":");
      body(r);
      want("}");
      scopes.pop_back();
      op.regions.push_back(std::move(r));
    } while (take(","));
    want(")");
  }

  void attributes(Op& op) {
    do {
      space();
      std::string key = identifier();
      want("=");
      if (op.has(key)) op.refuse("attribute " + key + " twice");
      op.attributes[key] = raw();
    } while (take(","));
    want("}");
  }

  // raw is the text of an attribute: up to a comma or brace outside of brackets and strings.
  std::string raw() {
    space();
    size_t from = at;
    for (int depth = 0; at < s.size(); at++) {
      char c = s[at];
      if (c == '"') {
        for (at++; at < s.size() && s[at] != '"'; at++) at += s[at] == '\\';
      } else if (c == '<' || c == '[') {
        depth++;
      } else if (c == '>' || c == ']') {
        depth--;
      } else if (depth == 0 && (c == ',' || c == '}')) {
        break;
      }
    }
    size_t to = at;
    while (to > from && std::isspace((unsigned char)s[to - 1])) to--;
    return s.substr(from, to - from);
  }

  void signature(Op& op) {
    want(":");
    want("(");
    if (!take(")")) {
      do op.operandTypes.push_back(type());
      while (take(","));
      want(")");
    }
    want("->");
    if (take("(")) {
      if (!take(")")) {
        do op.resultTypes.push_back(type());
        while (take(","));
        want(")");
      }
    } else {
      op.resultTypes.push_back(type());
    }
    if (op.operandTypes != p.typesOf(op.operands)) op.refuse("operands have other types than its signature says");
  }
};

}  // namespace

Program parse(const std::string& text) {
  Program p = Parser(text).module();
  p.text = text;
  return p;
}
