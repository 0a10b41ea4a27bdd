// Two files or directories of tensors, tensor by tensor.
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "apps/inspect/inspect.h"
#include "apps/options.h"
#include "core/error.h"
#include "core/number_types.h"

namespace qd {
using nlohmann::ordered_json;
namespace {

// One model has several names for a tensor: "h.0.ln_1.weight" here, behind "transformer." in a file of Hugging Face, behind "model." in
// last.safetensors. These two are left out, unless the file has the name without them as well.
std::string bare(const StoredState& state, const std::string& name) {
  for (const std::string prefix : {"transformer.", "model."}) {
    const std::string rest = name.starts_with(prefix) ? name.substr(prefix.size()) : "";
    if (!rest.empty() && !state.tensors.contains(rest)) return rest;
  }
  return name;
}

struct Difference {
  long double squares = 0, difference = 0;   // of a's numbers, of a - b
  double largest = 0;
  int64_t not_finite = 0;                    // pairs with a number that is not finite, and that are not the same
  bool same_bits = true;

  double relative() const {
    if (not_finite > 0) return NAN;
    return squares > 0 ? static_cast<double>(std::sqrt(difference / squares)) : difference > 0 ? INFINITY : 0;
  }
  void add(double x, double y) {
    if (!std::isfinite(x) || !std::isfinite(y)) {
      not_finite += !(x == y || (std::isnan(x) && std::isnan(y)));
      return;
    }
    squares += static_cast<long double>(x) * x;
    difference += (static_cast<long double>(x) - y) * (static_cast<long double>(x) - y);
    largest = std::max(largest, std::abs(x - y));
  }
};

bool same_bytes(const StoredTensor& a, const StoredTensor& b) {
  constexpr uint64_t piece = 1 << 20;
  if (a.type != b.type || a.bytes != b.bytes) return false;
  std::vector<char> left, right;
  for (uint64_t begin = 0; begin < a.bytes; begin += piece) {
    left.resize(std::min(piece, a.bytes - begin));
    right.resize(left.size());
    a.read_bytes(begin, left);
    b.read_bytes(begin, right);
    if (std::memcmp(left.data(), right.data(), left.size()) != 0) return false;
  }
  return true;
}

// Of tensors of one shape, and of known types unless they are the same bytes.
Difference difference_of(const StoredTensor& a, const StoredTensor& b) {
  constexpr int64_t piece = 1 << 16;
  Difference d{.same_bits = same_bytes(a, b)};
  if (!a.number || !b.number) {
    d.not_finite = !d.same_bits;
    return d;
  }
  std::vector<char> bytes;
  std::vector<double> x(piece), y(piece);
  for (int64_t begin = 0; begin < a.shape.size(); begin += piece) {
    const int64_t count = std::min(piece, a.shape.size() - begin);
    for (const auto& [t, values] : {std::pair(&a, &x), {&b, &y}}) {
      bytes.resize(static_cast<size_t>(count * t->number->bytes));
      t->read_bytes(static_cast<uint64_t>(begin * t->number->bytes), bytes);
      t->number->to_f64(bytes.data(), count, values->data());
    }
    for (size_t i = 0; i < static_cast<size_t>(count); ++i) d.add(x[i], y[i]);
  }
  return d;
}

}  // namespace

int compare(const std::string& path, const std::string& other, bool json) {
  const StoredState first = open_safetensors(path), second = open_safetensors(other);
  std::map<std::string, const StoredTensor*> partners;
  for (const auto& [name, tensor] : second.tensors) partners[bare(second, name)] = &tensor;

  Difference all;
  ordered_json list = ordered_json::array(), only_first = list, only_second = list, shapes = list;
  std::vector<std::vector<std::string>> rows = {{"name", "types", "norm", "relative", "largest", ""}};
  int64_t equal = 0;
  for (const StoredTensor* a : in_order(first)) {
    const auto found = partners.find(bare(first, a->name));
    if (found == partners.end()) {
      only_first.push_back(a->name);
      continue;
    }
    const StoredTensor* b = found->second;
    partners.erase(found);
    if (a->shape != b->shape) {
      shapes.push_back({{"name", a->name}, {"first", a->shape.str()}, {"second", b->shape.str()}});
      continue;
    }
    const Difference d = difference_of(*a, *b);
    const double norm = static_cast<double>(std::sqrt(d.squares));
    list.push_back({{"name", a->name}, {"norm", norm}, {"relative", d.relative()}, {"largest", d.largest}, {"equal", d.same_bits},
                    {"not_finite", d.not_finite}});
    const std::string types = a->type == b->type ? a->type : str(a->type, '/', b->type);
    rows.push_back({printable(a->name), printable(types), shown(norm), shown(d.relative()), shown(d.largest),
                    d.same_bits ? "equal in bits" : d.not_finite > 0 ? str("!! ", d.not_finite, " not finite or unknown") : ""});
    all.squares += d.squares, all.difference += d.difference, all.not_finite += d.not_finite;
    all.largest = std::max(all.largest, d.largest);
    equal += d.same_bits;
  }
  for (const auto& [name, tensor] : partners) only_second.push_back(tensor->name);

  if (json) {
    const ordered_json result = {{"path", path}, {"against", other}, {"only_first", only_first}, {"only_second", only_second},
                                 {"shapes", shapes}, {"tensors", list}, {"equal", equal}, {"relative", all.relative()}, {"largest", all.largest}};
    print(result.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n");
    return 0;
  }
  const auto note = [](const std::string& where, const ordered_json& names) {
    std::string text;
    for (const auto& name : names) text += printable("only in " + where + ": " + name.template get<std::string>()) + "\n";
    return text;
  };
  std::string text = rows.size() > 1 ? table(rows, 2) + "\n" : "";
  text += note(path, only_first) + note(other, only_second);
  for (const auto& s : shapes)
    text += printable(str("shapes differ: ", s["name"].get<std::string>(), " ", s["first"].get<std::string>(), " and ", s["second"].get<std::string>())) + "\n";
  text += str(equal, " of ", list.size(), " common tensors are equal in bits; in all ||a - b|| / ||a|| = ", shown(all.relative()),
              ", the largest difference is ", shown(all.largest), "\n");
  print(text);
  return 0;
}

}  // namespace qd
