/*
 * Sori: streaming speech recognition on the device.
 *
 *     SoriRecognizer *recognizer;
 *     SoriStream *stream;
 *     SoriEvent *event;
 *     if (sori_recognizer_open("model", NULL, &recognizer) != SORI_STATUS_OK ||
 *         sori_stream_open(recognizer, &stream) != SORI_STATUS_OK)
 *         return fail(sori_last_error());
 *     while ((count = hear(samples)) > 0) {
 *         sori_stream_accept(stream, 16000, samples, count);
 *         while (sori_stream_next_event(stream, &event) == SORI_STATUS_OK && event) {
 *             if (event->kind == SORI_EVENT_KIND_FINAL)
 *                 printf("%.2f %s\n", event->start, event->text);
 *             sori_event_free(event);
 *         }
 *     }
 *     sori_stream_finish(stream);           (and take the last events as above)
 *     sori_stream_free(stream);
 *     sori_recognizer_free(recognizer);
 *
 * Status. Every call that can fail returns a SoriStatus. After one that is not SORI_STATUS_OK,
 * sori_last_error() says in words what was wrong, for the thread that made the call. What a call
 * should have given through a pointer is then NULL, and the stream or recognizer stays usable,
 * but after SORI_STATUS_ENGINE (reset the stream) and SORI_STATUS_INTERNAL (free it).
 *
 * Handles. SoriRecognizer and SoriStream are numbers in the shape of pointers: they are looked up,
 * never followed. A null, freed, foreign or made-up handle gives SORI_STATUS_INVALID_HANDLE. Whatever is made
 * has to be freed once; the order does not matter, since a stream keeps what it needs of its
 * recognizer.
 *
 * Threads. Any thread may make any call. A recognizer may be used by many threads at once. The calls
 * for one stream run one after the other: a call waits until that of another thread is done, so that
 * it is best to let one thread give audio and take events. A stream may be freed while another thread
 * uses it: that thread's call ends first, its later ones give SORI_STATUS_INVALID_HANDLE. Streams of one
 * recognizer compute at the same time on tract; on ONNX Runtime they take turns, but for as many as
 * SoriOptions.parallel says. An event belongs to who took it, may be read by any thread, and outlives its
 * stream. Never call from an audio callback that must not wait: sori_stream_accept() computes.
 *
 * Text is UTF-8. Times are seconds from the start of the stream.
 *
 * Made by cbindgen; see capi/cbindgen.toml.
 */

#ifndef SORI_H
#define SORI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/**
 * What became of a call.
 */
typedef enum {
  /**
   * It did what it should.
   */
  SORI_STATUS_OK = 0,
  /**
   * An argument is null, out of range or not UTF-8.
   */
  SORI_STATUS_INVALID_ARGUMENT = 1,
  /**
   * The handle is null, freed, or of another kind.
   */
  SORI_STATUS_INVALID_HANDLE = 2,
  /**
   * The sample rate is outside of 8000 to 192000 Hz.
   */
  SORI_STATUS_AUDIO = 3,
  /**
   * The model package is not what it should be.
   */
  SORI_STATUS_PACKAGE = 4,
  /**
   * No engine can run the model, or a step failed. Reset the stream then.
   */
  SORI_STATUS_ENGINE = 5,
  /**
   * The phrases cannot be spelled with the model's tokens, or are too many.
   */
  SORI_STATUS_PHRASES = 6,
  /**
   * A fault in Sori itself, which was contained. Free the handle; please report it.
   */
  SORI_STATUS_INTERNAL = 7,
  /**
   * The grammar is none, or the model's tokens cannot spell it.
   */
  SORI_STATUS_GRAMMAR = 8,
} SoriStatus;

/**
 * What an event says.
 */
typedef enum {
  /**
   * The utterance so far. Each replaces the one before it; one without words takes it back.
   */
  SORI_EVENT_KIND_PARTIAL = 1,
  /**
   * A finished utterance; it does not change any more.
   */
  SORI_EVENT_KIND_FINAL = 2,
  /**
   * The utterance is over, after its SORI_EVENT_KIND_FINAL if it had words. Its time is `end`, and
   * `start` is the same.
   */
  SORI_EVENT_KIND_ENDPOINT = 3,
} SoriEventKind;

/**
 * Why an utterance is over.
 */
typedef enum {
  /**
   * The event is not the end of an utterance.
   */
  SORI_ENDPOINT_RULE_NONE = 0,
  /**
   * Nothing was said for a while.
   */
  SORI_ENDPOINT_RULE_SILENCE = 1,
  /**
   * There was silence after a word.
   */
  SORI_ENDPOINT_RULE_SILENCE_AFTER_SPEECH = 2,
  /**
   * The utterance was as long as one may be.
   */
  SORI_ENDPOINT_RULE_LONGEST = 3,
  /**
   * Another reason, which this version of the header has no name for.
   */
  SORI_ENDPOINT_RULE_OTHER = 4,
} SoriEndpointRule;

/**
 * Values of SoriOptions.engine.
 */
typedef enum {
  /**
   * The faster one on this processor that can be used: tract, or ONNX Runtime if a fitting library is found.
   */
  SORI_ENGINE_AUTO = 0,
  /**
   * ONNX Runtime, from a shared library found at run time.
   */
  SORI_ENGINE_ORT = 1,
  /**
   * tract, which is part of this library.
   */
  SORI_ENGINE_TRACT = 2,
} SoriEngine;

/**
 * Values of SoriOptions.precision and SoriPackage.precision.
 */
typedef enum {
  /**
   * The faster one on the engine that runs.
   */
  SORI_PRECISION_AUTO = 0,
  /**
   * 32-bit floats.
   */
  SORI_PRECISION_FP32 = 1,
  /**
   * 8-bit integers in matrix products.
   */
  SORI_PRECISION_INT8 = 2,
} SoriPrecision;

/**
 * A loaded model. All its streams share one copy of the weights.
 */
typedef struct SoriRecognizer SoriRecognizer;

/**
 * One source of audio on its way to words.
 */
typedef struct SoriStream SoriStream;

/**
 * A word and when it was said.
 */
typedef struct {
  /**
   * Its spelling.
   */
  const char *text;
  /**
   * Seconds.
   */
  double start;
  /**
   * Seconds.
   */
  double end;
  /**
   * 0 to 1.
   */
  float confidence;
} SoriWord;

/**
 * What else an utterance may have been.
 */
typedef struct {
  /**
   * Words, joined by single spaces.
   */
  const char *text;
  /**
   * Natural logarithm of its probability: comparable within an event only.
   */
  float score;
} SoriAlternative;

/**
 * What a stream has to say. Read only; free it by sori_event_free().
 */
typedef struct {
  /**
   * What it says.
   */
  SoriEventKind kind;
  /**
   * Of SORI_EVENT_KIND_ENDPOINT: why.
   */
  SoriEndpointRule rule;
  /**
   * Start of the first word, in seconds.
   */
  double start;
  /**
   * End of the last word, in seconds.
   */
  double end;
  /**
   * 0 to 1, over all words.
   */
  float confidence;
  /**
   * Words, joined by single spaces; never NULL.
   */
  const char *text;
  /**
   * In order of time.
   */
  const SoriWord *words;
  /**
   * How many.
   */
  size_t word_count;
  /**
   * Best first, the event's own text among them; of a SORI_EVENT_KIND_FINAL, where SoriOptions asks for
   * them.
   */
  const SoriAlternative *alternatives;
  /**
   * How many.
   */
  size_t alternative_count;
  /**
   * Of a SORI_EVENT_KIND_FINAL: something was said that the grammar does not have. There are no words
   * then.
   */
  bool out_of_grammar;
} SoriEvent;

/**
 * How a recognizer works. Set `size`, and leave at zero what shall be as usual:
 * `SoriOptions options = {.size = sizeof(SoriOptions)};`
 */
typedef struct {
  /**
   * sizeof(SoriOptions): tells the library which version of this struct the caller knows.
   */
  size_t size;
  /**
   * A SoriEngine.
   */
  uint32_t engine;
  /**
   * A SoriPrecision.
   */
  uint32_t precision;
  /**
   * Threads for one step; 0 is 1.
   */
  uint32_t threads;
  /**
   * Hypotheses that a beam search keeps; 0 searches greedily.
   */
  uint32_t beam;
  /**
   * Alternatives that a final event brings along at most; only a beam has any.
   */
  uint32_t alternatives;
  /**
   * 1 lets new streams ask the language model of the package, if it has one.
   */
  uint32_t language_model;
  /**
   * Streams that may be in a step at the same time; more of them wait for one another, and 0 is 1. On ONNX
   * Runtime each costs a copy of the weights; on tract all may be, whatever this says.
   */
  uint32_t parallel;
  /**
   * Seconds of silence that end an utterance without a word: 0 is 2.4, below zero is never.
   */
  double endpoint_silence;
  /**
   * Seconds of silence after a word that end an utterance: 0 is 1.2, below zero is never.
   */
  double endpoint_silence_after_speech;
  /**
   * Seconds after which an utterance is cut: 0 is 20, below zero is never.
   */
  double endpoint_longest;
} SoriOptions;

/**
 * A model package in memory, as from the resources of a program. Zero what there is none of. The bytes
 * are only needed during the call.
 */
typedef struct {
  /**
   * sizeof(SoriPackage): tells the library which version of this struct the caller knows.
   */
  size_t size;
  /**
   * config.json.
   */
  const uint8_t *config;
  /**
   * Its bytes.
   */
  size_t config_size;
  /**
   * tokens.txt.
   */
  const uint8_t *tokens;
  /**
   * Its bytes.
   */
  size_t tokens_size;
  /**
   * model.onnx or model.int8.onnx.
   */
  const uint8_t *graph;
  /**
   * Its bytes.
   */
  size_t graph_size;
  /**
   * Which of the two it is: SORI_PRECISION_FP32 or SORI_PRECISION_INT8.
   */
  uint32_t precision;
  /**
   * A language model, if SoriOptions.language_model asks for one.
   */
  const uint8_t *language_model;
  /**
   * Its bytes.
   */
  size_t language_model_size;
} SoriPackage;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Frees an event. Freeing one twice gives SORI_STATUS_INVALID_HANDLE, unless its memory has become
 * another event in between.
 */
SoriStatus sori_event_free(SoriEvent *event);

/**
 * Loads the model package in a directory. `options` may be NULL: all as usual. Takes some tenths of a
 * second for a model of five million weights.
 *
 * # Safety
 * `directory` points to a string that ends in a zero byte, `options` to a SoriOptions or is NULL, and
 * `recognizer` to where a pointer can be written.
 */
SoriStatus sori_recognizer_open(const char *directory,
                                const SoriOptions *options,
                                SoriRecognizer **recognizer);

/**
 * Loads a model package from memory.
 *
 * # Safety
 * `package` points to a SoriPackage whose pointers point to as many bytes as it says, `options` to a
 * SoriOptions or is NULL, and `recognizer` to where a pointer can be written.
 */
SoriStatus sori_recognizer_open_memory(const SoriPackage *package,
                                       const SoriOptions *options,
                                       SoriRecognizer **recognizer);

/**
 * Frees a recognizer. Its streams go on: the last of them takes the weights along.
 */
SoriStatus sori_recognizer_free(SoriRecognizer *recognizer);

/**
 * What was wrong with the last call of this thread that failed, in a line of UTF-8; empty before any.
 * The text is the library's, and stays until another call of this thread fails.
 */
const char *sori_last_error(void);

/**
 * The library's version, as "0.1.0". The text is the library's.
 */
const char *sori_version(void);

/**
 * Opens a stream at time 0.
 *
 * # Safety
 * `stream` points to where a pointer can be written.
 */
SoriStatus sori_stream_open(SoriRecognizer *recognizer, SoriStream **stream);

/**
 * Hears `count` mono samples in [-1, 1] at `sample_rate` Hz, 8000 to 192000, which may change between
 * calls. Any number is fine; 10 to 100 ms at a time suit live audio. Computes on this thread. Take
 * the events after every call: they wait in the stream.
 *
 * # Safety
 * `samples` points to `count` floats.
 */
SoriStatus sori_stream_accept(SoriStream *stream,
                              uint32_t sample_rate,
                              const float *samples,
                              size_t count);

/**
 * The same for 16-bit integers.
 *
 * # Safety
 * `samples` points to `count` 16-bit integers.
 */
SoriStatus sori_stream_accept_i16(SoriStream *stream,
                                  uint32_t sample_rate,
                                  const int16_t *samples,
                                  size_t count);

/**
 * Ends the audio: the last words become events. The stream is then at time 0, ready for other audio.
 */
SoriStatus sori_stream_finish(SoriStream *stream);

/**
 * Drops everything heard and every event not taken: the stream is at time 0 again.
 */
SoriStatus sori_stream_reset(SoriStream *stream);

/**
 * Ends the utterance here and now: its words become a final event. Sound that does not fill a chunk yet is heard with the
 * next one and belongs to the next utterance; where the source pauses, as behind a button that was let go,
 * sori_stream_finish() hears it all.
 */
SoriStatus sori_stream_end_utterance(SoriStream *stream);

/**
 * Ends the utterance, then prefers other phrases: names, commands, contacts. `phrases` is the text of a
 * file: a phrase per line, with a number behind it if its letters are to count for more or less than 0.5
 * (-20 to 20); lines that begin with # are comments. NULL or an empty text prefers none. A line that is
 * no phrase, or that the model cannot spell, refuses all. A stream that searches greedily turns to a beam.
 *
 * Phrases that a program has from elsewhere, as "Maroon 5", go through sori_stream_set_phrase_list().
 *
 * # Safety
 * `phrases` is NULL or points to a string that ends in a zero byte.
 */
SoriStatus sori_stream_set_phrases(SoriStream *stream,
                                   const char *phrases);

/**
 * The same for `count` phrases that are taken as they are: a number is a word, and # a letter. `boosts` says
 * what the letters of each count for, -20 to 20; NULL is 0.5 for all. What the model cannot say is left
 * out: a text that is empty, longer than 1000 bytes, or not to be spelled with its tokens. `left_out`, if
 * not NULL, is told of each phrase whether it was. A count of 0 prefers none.
 *
 * # Safety
 * `texts` points to `count` strings that end in a zero byte, `boosts` to `count` floats or is NULL, and
 * `left_out` to where `count` bools can be written or is NULL.
 */
SoriStatus sori_stream_set_phrase_list(SoriStream *stream,
                                       const char *const *texts,
                                       const float *boosts,
                                       size_t count,
                                       bool *left_out);

/**
 * Ends the utterance, then hears sentences of a grammar only, or anything again. `grammar` has a
 * sentence per line, or is in JSGF; NULL or an empty text is none. What is said outside of it gives an event
 * with `out_of_grammar`. A stream that searches greedily turns to a beam.
 *
 * # Safety
 * `grammar` is NULL or points to a string that ends in a zero byte.
 */
SoriStatus sori_stream_set_grammar(SoriStream *stream,
                                   const char *grammar);

/**
 * Takes the next event out of the stream; NULL when there is none. Free it by sori_event_free().
 *
 * # Safety
 * `event` points to where a pointer can be written.
 */
SoriStatus sori_stream_next_event(SoriStream *stream, SoriEvent **event);

/**
 * Frees a stream, and the events in it that were not taken.
 */
SoriStatus sori_stream_free(SoriStream *stream);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* SORI_H */
