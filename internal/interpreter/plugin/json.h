// JSON, as far as the configuration of a custom call needs it: every value is kept under its path, as text.
#pragma once

#include <map>
#include <string>

// flatten gives {"a": {"b": [1, "x"]}} as a.b.0 = 1 and a.b.1 = x.
std::map<std::string, std::string> flatten(const std::string& json);
