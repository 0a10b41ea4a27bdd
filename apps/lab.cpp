// Laboratories: the claims of a post, measured again, with an honest PASS or FAIL for each.
//   bin/lab wordcount --quick
//   bin/lab words --data news.txt --out report
#include "apps/lab/lab.h"

int main(int argc, char** argv) {
  qd::App app("lab", "Laboratories: the claims of a post, measured again, with a verdict for each.");
  qd::add_wordcount(app);
  qd::add_words(app);
  qd::add_vqvae(app);
  return app.run(argc, argv);
}
