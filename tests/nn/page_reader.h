// What a browser would make of a report: its tags, and its text.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "core/utf8.h"

namespace qd::test {

struct Page {
  std::vector<std::string> tags;      // "div", "/div", in order
  std::string text;                   // what stands between them, entities decoded
  std::vector<std::string> values;    // of attributes, likewise
  std::vector<std::string> scripts;   // what stands in <script> and <style>, as it is
};

inline std::string without_entities(std::string_view text) {
  static const std::pair<const char*, const char*> known[] = {{"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}, {"&#39;", "'"}};
  std::string out;
  while (!text.empty()) {
    if (text[0] != '&') {
      out += text[0];
      text.remove_prefix(1);
      continue;
    }
    const auto* found = std::find_if(std::begin(known), std::end(known), [&](const auto& k) { return text.starts_with(k.first); });
    REQUIRE(found != std::end(known));   // a lone & or an unknown entity
    out += found->second;
    text.remove_prefix(std::string_view(found->first).size());
  }
  return out;
}

// Requires tags that balance, attributes in double quotes, no lone < or &, no control characters, UTF-8.
inline Page parsed(std::string_view html) {
  const std::string_view doctype = "<!DOCTYPE html>\n";
  REQUIRE(html.starts_with(doctype));
  CHECK(count_invalid_utf8(html) == 0);
  CHECK(std::none_of(html.begin(), html.end(), [](char c) { return static_cast<unsigned char>(c) < 32 && c != '\n' && c != '\t'; }));
  static const std::vector<std::string> empty = {"meta", "img", "input", "path", "br"};   // path: closed by itself
  Page page;
  std::vector<std::string> open;
  size_t at = doctype.size();
  const auto word = [&] {
    size_t end = at;
    while (end < html.size() && (std::isalnum(static_cast<unsigned char>(html[end])) || html[end] == '-')) ++end;
    const std::string name(html.substr(at, end - at));
    at = end;
    return name;
  };
  while (at < html.size()) {
    const size_t tag = std::min(html.find('<', at), html.size());
    const std::string_view between = html.substr(at, tag - at);
    REQUIRE(between.find('>') == std::string_view::npos);
    page.text += without_entities(between);
    at = tag;
    if (at == html.size()) break;
    if (html.substr(at).starts_with("<!--")) {
      at = html.find("-->", at);
      REQUIRE(at != std::string_view::npos);
      at += 3;
      continue;
    }
    const bool closing = html[++at] == '/';
    at += closing;
    const std::string name = word();
    REQUIRE_FALSE(name.empty());
    page.tags.push_back((closing ? "/" : "") + name);
    bool closed = false;
    while (at < html.size() && html[at] != '>') {
      if (html[at] == '/' || html[at] == ' ') {
        closed = html[at] == '/';
        ++at;
        continue;
      }
      REQUIRE_FALSE(word().empty());
      if (html[at] != '=') continue;
      REQUIRE(html[++at] == '"');
      const size_t end = html.find('"', at + 1);
      REQUIRE(end != std::string_view::npos);
      const std::string_view value = html.substr(at + 1, end - at - 1);
      CHECK(value.find('<') == std::string_view::npos);
      page.values.push_back(without_entities(value));
      at = end + 1;
    }
    REQUIRE(at < html.size());
    ++at;
    if (closing) {
      REQUIRE_FALSE(open.empty());
      CHECK(open.back() == name);
      open.pop_back();
    } else if (!closed && std::find(empty.begin(), empty.end(), name) == empty.end()) {
      open.push_back(name);
      if (name == "script" || name == "style") {
        const size_t end = html.find("</" + name, at);
        REQUIRE(end != std::string_view::npos);
        page.scripts.emplace_back(html.substr(at, end - at));
        at = end;
      }
    }
  }
  CHECK(open.empty());
  return page;
}

// Nothing is fetched: no address, no link, no picture but data.
inline void check_self_contained(const std::string& html) {
  for (const char* outside : {"http://", "https://", "href", "@import", "url(", "<link", "<iframe", "fetch(", "XMLHttpRequest", "import("})
    CHECK_MESSAGE(html.find(outside) == std::string::npos, outside);
  for (size_t at = 0; (at = html.find("src", at)) != std::string::npos; ++at) {
    const std::string_view rest = std::string_view(html).substr(at);
    CHECK((rest.starts_with("src=\"data:image/png;base64,") || rest.starts_with("src 'none'") || rest.starts_with("src 'unsafe-inline'") || rest.starts_with("src data:")));
  }
}

// The numbers of the charts: for each plot what its script holds.
inline std::vector<std::string> chart_data(const Page& page) {
  std::vector<std::string> data;
  for (const std::string& script : page.scripts)
    if (script.starts_with("[")) data.push_back(script);
  return data;
}

}  // namespace qd::test
