#include "json.h"

#include <cctype>
#include <cstring>

#include "tensor.h"

namespace {

struct Flattener {
  const std::string& s;
  size_t at = 0;
  std::map<std::string, std::string> all;

  void space() {
    while (at < s.size() && std::isspace((unsigned char)s[at])) at++;
  }
  bool take(char c) {
    space();
    if (at == s.size() || s[at] != c) return false;
    at++;
    return true;
  }
  void want(char c) {
    if (!take(c)) refuse("JSON: no '" + std::string(1, c) + "' at character " + std::to_string(at));
  }
  std::string quoted() {
    want('"');
    size_t from = at;
    while (at < s.size() && s[at] != '"') at++;
    want('"');
    return s.substr(from, at - 1 - from);
  }
  void value(const std::string& path) {
    auto under = [&](const std::string& key) { return path.empty() ? key : path + "." + key; };
    if (take('{')) {
      if (take('}')) return;
      do {
        space();
        std::string key = quoted();
        want(':');
        value(under(key));
      } while (take(','));
      want('}');
    } else if (take('[')) {
      if (take(']')) return;
      int i = 0;
      do value(under(std::to_string(i++)));
      while (take(','));
      want(']');
    } else if (space(), at < s.size() && s[at] == '"') {
      all[path] = quoted();
    } else {
      size_t from = at;
      while (at < s.size() && !strchr(",]} \n", s[at])) at++;
      if (from == at) refuse("JSON: no value at character " + std::to_string(at));
      all[path] = s.substr(from, at - from);
    }
  }
};

}  // namespace

std::map<std::string, std::string> flatten(const std::string& json) {
  Flattener f{json, 0, {}};
  f.value("");
  f.space();
  if (f.at != json.size()) refuse("JSON: more after the end");
  return f.all;
}
