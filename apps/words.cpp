// Chinese text without labels: count words, discover them, cut text into them, score the cuts.
//   bin/words discover news.txt --out dict.txt
//   bin/words segment --dict dict.txt news.txt
#include "apps/words/commands.h"

int main(int argc, char** argv) {
  qd::App app("words", "Words of a text: count them, discover them, cut text into them, score the cuts.");
  qd::add_count(app);
  qd::add_discover(app);
  qd::add_segment(app);
  qd::add_score(app);
  return app.run(argc, argv);
}
