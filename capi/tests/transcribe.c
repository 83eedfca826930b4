/* Transcribes a 16-bit mono WAV file: transcribe MODEL FILE [memory]. A line for each final event. */

#include <sori.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 44, PIECE = 1600 };

static int fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, sori_last_error());
  return 1;
}

static void say(SoriStream *stream) {
  SoriEvent *event;
  while (sori_stream_next_event(stream, &event) == SORI_STATUS_OK && event) {
    if (event->kind == SORI_EVENT_KIND_FINAL) {
      printf("%.2f %.2f %s", event->start, event->end, event->text);
      for (size_t i = 0; i < event->word_count; i++)
        printf(" [%s %.2f %.2f]", event->words[i].text, event->words[i].start, event->words[i].end);
      printf("\n");
    }
    sori_event_free(event);
  }
}

static unsigned char *slurp(const char *directory, const char *name, size_t *size) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", directory, name);
  FILE *file = fopen(path, "rb");
  if (!file) return NULL;
  fseek(file, 0, SEEK_END);
  *size = (size_t)ftell(file);
  rewind(file);
  unsigned char *bytes = malloc(*size);
  if (bytes && fread(bytes, 1, *size, file) != *size) {
    free(bytes);
    bytes = NULL;
  }
  fclose(file);
  return bytes;
}

static SoriStatus open_memory(const char *model, const SoriOptions *options, SoriRecognizer **recognizer) {
  SoriPackage package = {.size = sizeof package, .precision = SORI_PRECISION_FP32};
  unsigned char *config = slurp(model, "config.json", &package.config_size);
  unsigned char *tokens = slurp(model, "tokens.txt", &package.tokens_size);
  unsigned char *graph = slurp(model, "model.onnx", &package.graph_size);
  package.config = config;
  package.tokens = tokens;
  package.graph = graph;
  SoriStatus status = sori_recognizer_open_memory(&package, options, recognizer);
  free(config);
  free(tokens);
  free(graph);
  return status;
}

int main(int count, char **arguments) {
  if (count < 3) return 2;
  SoriOptions options = {.size = sizeof options, .engine = SORI_ENGINE_TRACT};
  SoriRecognizer *recognizer;
  SoriStatus status = count > 3 ? open_memory(arguments[1], &options, &recognizer)
                                : sori_recognizer_open(arguments[1], &options, &recognizer);
  if (status != SORI_STATUS_OK) return fail("model");
  SoriStream *stream;
  if (sori_stream_open(recognizer, &stream) != SORI_STATUS_OK) return fail("stream");

  FILE *file = fopen(arguments[2], "rb");
  if (!file || fseek(file, HEADER, SEEK_SET) != 0) return 1;
  int16_t samples[PIECE];
  size_t read;
  while ((read = fread(samples, sizeof *samples, PIECE, file)) > 0) {
    if (sori_stream_accept_i16(stream, 16000, samples, read) != SORI_STATUS_OK) return fail("accept");
    say(stream);
  }
  fclose(file);
  if (sori_stream_finish(stream) != SORI_STATUS_OK) return fail("finish");
  say(stream);
  sori_stream_free(stream);
  sori_recognizer_free(recognizer);
  return 0;
}
