// A page that shows what was done: one HTML file without anything from elsewhere, for a phone and a desktop, light and dark.
//
//   Report page("lm-001", "lm train, tinyshakespeare.txt");
//   page.figures({{"validation loss", "1.878", "at step 2,000"}});
//   page.section("Samples").samples({{"step 2,000", text}});
//   write_file("report.html", page.html());
//
// Text that is given is shown as text, whatever bytes it holds. Sections that get nothing are left out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "nn/chart.h"

namespace qd {

// A headline figure: what it is, its value, a remark.
struct Figure {
  std::string name, value, remark = {};
};

// A table's cells are texts. A column whose cells are all numbers stands to the right; a cell can be a verdict.
struct Cell {
  enum class Tone { plain, good, bad };
  Cell(std::string text, Tone tone = Tone::plain) : text(std::move(text)), tone(tone) {}
  Cell(const char* text) : text(text) {}
  std::string text;
  Tone tone = Tone::plain;
};
struct Table {
  std::string title = {};
  std::vector<std::string> columns = {};             // empty: no head, the first column names what the others say
  std::vector<std::vector<Cell>> rows = {};
};

struct Sample {
  std::string title, text;
  std::string png = {};                              // in place of the text, where there is one
};

// Square pictures of numbers from 0 to 1, in groups: attention maps by layer and head.
struct Heatmaps {
  struct Map {
    std::string title;                               // "head 1"
    std::vector<float> values;                       // labels x labels, by rows
  };
  struct Group {
    std::string title;                               // "layer 1"
    std::vector<Map> maps = {};
  };
  std::vector<std::string> labels = {};              // of rows and columns: tokens
  std::vector<Group> groups = {};
};

class Report {
 public:
  explicit Report(std::string title, std::string subtitle = {});
  Report& section(std::string title);                // what follows stands under it
  Report& note(std::string_view text);
  Report& figures(const std::vector<Figure>& figures);
  Report& charts(const std::vector<Chart>& charts);  // over the same steps: pointing at one shows the step in all
  Report& table(const Table& table);                 // several in a row stand side by side where there is room
  Report& samples(const std::vector<Sample>& samples);               // the first text is open
  Report& heatmaps(const Heatmaps& maps);            // throws Error: a map that does not have labels x labels values
  Report& picture(std::string_view png, std::string_view caption);
  Report& command(std::string_view line);            // for a shell
  std::string html() const;

 private:
  Report& add(const std::string& part);
  std::string title_, subtitle_, section_, body_;    // section_: begun, and nothing in it yet
};

}  // namespace qd
