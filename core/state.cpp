#include "core/state.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>

#include "core/error.h"

namespace qd {

void State::put(const std::string& name, int64_t value) { texts[name] = std::to_string(value); }

void State::put(const std::string& name, double value) {
  char digits[40];
  std::snprintf(digits, sizeof digits, "%a", value);
  texts[name] = digits;
}

const std::string& State::text(const std::string& name) const {
  const auto found = texts.find(name);
  QD_CHECK(found != texts.end(), "state", str("expected an entry '", name, "', it is missing"));
  return found->second;
}

int64_t State::integer(const std::string& name) const {
  const std::string& digits = text(name);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  QD_CHECK(error == std::errc() && end == digits.data() + digits.size(), "state", str("expected an integer in '", name, "', got '", digits, "'"));
  return value;
}

double State::real(const std::string& name) const {
  const std::string& digits = text(name);
  char* end = nullptr;
  const double value = std::strtod(digits.c_str(), &end);
  QD_CHECK(!digits.empty() && end == digits.c_str() + digits.size(), "state", str("expected a number in '", name, "', got '", digits, "'"));
  return value;
}

const Tensor& State::tensor(const std::string& name, const Shape& shape, DType dtype) const {
  const auto found = tensors.find(name);
  QD_CHECK(found != tensors.end(), "state", str("expected a tensor '", name, "', it is missing"));
  QD_CHECK(found->second.shape() == shape && found->second.dtype() == dtype, "state",
           str("expected '", name, "' of ", name_of(dtype), " ", shape.str(), ", got ", name_of(found->second.dtype()), " ",
               found->second.shape().str()));
  return found->second;
}

}  // namespace qd
