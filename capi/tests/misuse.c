/* Wrong calls get a status and a text, never a crash: misuse MODEL. */

#include <math.h>
#include <pthread.h>
#include <sori.h>
#include <stdio.h>
#include <string.h>

static int faults;

static void check(int line, SoriStatus expected, SoriStatus found, const char *text) {
  if (expected == found && strstr(sori_last_error(), text)) return;
  fprintf(stderr, "line %d: expected status %d and \"%s\", found %d and \"%s\"\n", line, expected, text, found,
          sori_last_error());
  faults++;
}

#define FAILS(status, text, call) check(__LINE__, SORI_STATUS_##status, (call), text)
#define WORKS(call) check(__LINE__, SORI_STATUS_OK, (call), "")

static float silence[16000];

static void *hear(void *stream) {
  SoriStatus status;
  while ((status = sori_stream_accept(stream, 16000, silence, 16000)) == SORI_STATUS_OK) {
  }
  return status == SORI_STATUS_INVALID_HANDLE ? NULL : stream;
}

static void *error_of_another_thread(void *text) {
  const char *error = sori_last_error();
  strncpy(text, error, 99);
  return NULL;
}

int main(int count, char **arguments) {
  if (count < 2) return 2;
  const char *model = arguments[1];
  SoriRecognizer *recognizer, *none;
  SoriStream *stream, *other;
  SoriEvent *event;
  SoriOptions options = {.size = sizeof options, .engine = SORI_ENGINE_TRACT};

  if (strcmp(sori_last_error(), "") != 0) faults++;
  if (strlen(sori_version()) < 5) faults++;

  /* Arguments. */
  FAILS(INVALID_ARGUMENT, "directory: is NULL", sori_recognizer_open(NULL, NULL, &none));
  FAILS(INVALID_ARGUMENT, "recognizer: is NULL", sori_recognizer_open(model, NULL, NULL));
  FAILS(INVALID_ARGUMENT, "not UTF-8", sori_recognizer_open("\xff\xfe", NULL, &none));
  FAILS(PACKAGE, "/no/such/model: no such model package", sori_recognizer_open("/no/such/model", NULL, &none));
  if (none) faults++;
  options.size = 3;
  FAILS(INVALID_ARGUMENT, "options.size: 3", sori_recognizer_open(model, &options, &none));
  options.size = sizeof options;
  options.engine = 77;
  FAILS(INVALID_ARGUMENT, "options.engine: expected a SoriEngine, found 77", sori_recognizer_open(model, &options, &none));
  options.engine = SORI_ENGINE_TRACT;
  options.precision = 9;
  FAILS(INVALID_ARGUMENT, "options.precision", sori_recognizer_open(model, &options, &none));
  options.precision = 0;
  options.beam = 1u << 31;
  FAILS(INVALID_ARGUMENT, "options.beam", sori_recognizer_open(model, &options, &none));
  options.beam = 0;
  options.parallel = 1u << 31;
  FAILS(INVALID_ARGUMENT, "options.parallel", sori_recognizer_open(model, &options, &none));
  options.parallel = 0;
  options.endpoint_longest = NAN;
  FAILS(INVALID_ARGUMENT, "options.endpoint_longest", sori_recognizer_open(model, &options, &none));
  options.endpoint_longest = -1;

  SoriPackage package = {.size = sizeof package};
  FAILS(INVALID_ARGUMENT, "package: is NULL", sori_recognizer_open_memory(NULL, NULL, &none));
  FAILS(INVALID_ARGUMENT, "package.precision", sori_recognizer_open_memory(&package, NULL, &none));
  package.precision = SORI_PRECISION_INT8;
  FAILS(PACKAGE, "config.json", sori_recognizer_open_memory(&package, NULL, &none));
  package.config_size = 10;
  FAILS(INVALID_ARGUMENT, "package.config: is NULL", sori_recognizer_open_memory(&package, NULL, &none));
  package.config = (const unsigned char *)"{\"format\":";
  FAILS(PACKAGE, "config.json", sori_recognizer_open_memory(&package, NULL, &none));

  /* Handles. */
  WORKS(sori_recognizer_open(model, &options, &recognizer));
  FAILS(INVALID_ARGUMENT, "stream: is NULL", sori_stream_open(recognizer, NULL));
  FAILS(INVALID_HANDLE, "recognizer", sori_stream_open(NULL, &other));
  FAILS(INVALID_HANDLE, "recognizer", sori_stream_open((SoriRecognizer *)silence, &other));
  WORKS(sori_stream_open(recognizer, &stream));
  FAILS(INVALID_HANDLE, "recognizer", sori_stream_open((SoriRecognizer *)stream, &other));
  FAILS(INVALID_HANDLE, "stream", sori_stream_finish((SoriStream *)recognizer));
  FAILS(INVALID_HANDLE, "stream", sori_stream_accept(NULL, 16000, silence, 16000));
  FAILS(INVALID_HANDLE, "event", sori_event_free(NULL));
  FAILS(INVALID_HANDLE, "event", sori_event_free((SoriEvent *)silence));

  /* Samples, rates, phrases. */
  WORKS(sori_stream_accept(stream, 16000, NULL, 0));
  FAILS(INVALID_ARGUMENT, "samples: is NULL", sori_stream_accept(stream, 16000, NULL, 5));
  FAILS(INVALID_ARGUMENT, "samples: no array", sori_stream_accept(stream, 16000, silence, (size_t)-1));
  FAILS(INVALID_ARGUMENT, "samples: no array", sori_stream_accept(stream, 16000, (float *)((char *)silence + 1), 5));
  FAILS(AUDIO, "sample rate 7 Hz", sori_stream_accept(stream, 7, silence, 100));
  float broken[320] = {NAN, INFINITY, -INFINITY, 1e30f};
  WORKS(sori_stream_accept(stream, 16000, broken, 320));
  WORKS(sori_stream_reset(stream));
  FAILS(PHRASES, "phrases:1", sori_stream_set_phrases(stream, "xylophone"));
  WORKS(sori_stream_set_phrases(stream, "one\ntwo 1.5\n"));
  WORKS(sori_stream_set_phrases(stream, NULL));
  const char *texts[] = {"going", "two 1.5", "#one", "Jos\xc3\xa9", ""};
  const float boosts[] = {1, 21};
  bool left_out[5] = {false, false, false, false, false};
  WORKS(sori_stream_set_phrase_list(stream, texts, NULL, 5, left_out));
  if (left_out[0] || !left_out[1] || !left_out[2] || !left_out[3] || !left_out[4]) faults++;
  WORKS(sori_stream_set_phrase_list(stream, texts, boosts, 1, NULL));
  WORKS(sori_stream_set_phrase_list(stream, NULL, NULL, 0, NULL));
  FAILS(INVALID_ARGUMENT, "texts: is NULL", sori_stream_set_phrase_list(stream, NULL, NULL, 1, NULL));
  const char *null[] = {"one", NULL};
  FAILS(INVALID_ARGUMENT, "texts: is NULL", sori_stream_set_phrase_list(stream, null, NULL, 2, NULL));
  texts[1] = "two";
  FAILS(PHRASES, "phrase 2: expected a boost", sori_stream_set_phrase_list(stream, texts, boosts, 2, NULL));
  FAILS(INVALID_HANDLE, "stream", sori_stream_set_phrase_list(NULL, texts, boosts, 1, NULL));
  FAILS(GRAMMAR, "grammar:1", sori_stream_set_grammar(stream, "xylophone"));
  FAILS(GRAMMAR, "grammar", sori_stream_set_grammar(stream, "#JSGF V1.0; public <a> = <b>;"));
  WORKS(sori_stream_set_grammar(stream, "one\ntwo\n"));
  WORKS(sori_stream_set_grammar(stream, NULL));
  FAILS(INVALID_ARGUMENT, "event: is NULL", sori_stream_next_event(stream, NULL));

  /* Another thread's error is not ours. */
  char text[100] = "something";
  pthread_t thread;
  pthread_create(&thread, NULL, error_of_another_thread, text);
  pthread_join(thread, NULL);
  if (text[0] != 0) faults++;

  /* An event outlives its stream, a stream its recognizer; nothing is freed twice. */
  for (int second = 0; second < 4; second++) WORKS(sori_stream_accept(stream, 16000, silence, 16000));
  WORKS(sori_stream_next_event(stream, &event));
  WORKS(sori_recognizer_free(recognizer));
  FAILS(INVALID_HANDLE, "recognizer", sori_recognizer_free(recognizer));
  WORKS(sori_stream_accept(stream, 16000, silence, 16000));
  WORKS(sori_stream_free(stream));
  FAILS(INVALID_HANDLE, "stream", sori_stream_free(stream));
  FAILS(INVALID_HANDLE, "stream", sori_stream_accept(stream, 16000, silence, 16000));
  FAILS(INVALID_HANDLE, "stream", sori_stream_finish(stream));
  SoriEvent *after;
  FAILS(INVALID_HANDLE, "stream", sori_stream_next_event(stream, &after));
  if (after) faults++;
  if (!event || event->kind != SORI_EVENT_KIND_ENDPOINT || event->rule != SORI_ENDPOINT_RULE_SILENCE ||
      strcmp(event->text, "") != 0)
    faults++;
  WORKS(sori_event_free(event));
  FAILS(INVALID_HANDLE, "event", sori_event_free(event));

  /* Freed by one thread while another uses it. */
  WORKS(sori_recognizer_open(model, &options, &recognizer));
  WORKS(sori_stream_open(recognizer, &stream));
  pthread_create(&thread, NULL, hear, stream);
  for (int i = 0; i < 3; i++) WORKS(sori_stream_accept(stream, 16000, silence, 16000));
  WORKS(sori_stream_free(stream));
  WORKS(sori_recognizer_free(recognizer));
  void *wrong;
  pthread_join(thread, &wrong);
  if (wrong) faults++;

  if (faults) fprintf(stderr, "%d faults\n", faults);
  return faults != 0;
}
