// Tokenizers: learn one from text, turn text into ids and back.
//   bin/tok train --data book.txt --size 8000 --out tokenizer
//   bin/tok encode --model tokenizer book.txt | bin/tok decode --model tokenizer
#include "apps/tok/commands.h"

int main(int argc, char** argv) {
  qd::App app("tok", "Tokenizers: learn one from text, turn text into ids and back.");
  qd::add_train(app);
  qd::add_encode(app);
  qd::add_decode(app);
  return app.run(argc, argv);
}
