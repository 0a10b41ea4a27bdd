// Language models: train one on text, measure it, let it write.
//   bin/lm train --data book.txt --steps 2000
//   bin/lm sample --model runs/lm-001 --prompt "Once upon a time"
#include "apps/lm/commands.h"

int main(int argc, char** argv) {
  qd::App app("lm", "Language models: train one on text, measure it, let it write.");
  qd::add_train(app);
  qd::add_eval(app);
  qd::add_sample(app);
  qd::add_report(app);
  qd::add_export(app);
  return app.run(argc, argv);
}
