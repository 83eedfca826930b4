package ai.sori

/** What runs a model. */
public enum class Engine {
    /**
     * ONNX Runtime where this library was built with it and the app has it, else tract; on x86-64 without AVX-512 and VNNI, as in
     * many emulators, tract.
     */
    AUTO,

    /** ONNX Runtime: the app has to bring `libonnxruntime.so` along. */
    ORT,

    /** tract, which is part of this library. */
    TRACT,
}

/** Arithmetic of a model. */
public enum class Precision {
    /** The faster one on the engine that runs. */
    AUTO,

    /** 32-bit floats. */
    FP32,

    /** 8-bit integers in matrix products. */
    INT8,
}

/**
 * When an utterance is over, in seconds; [Double.POSITIVE_INFINITY] turns a rule off.
 *
 * @property silence Silence that ends an utterance without a word.
 * @property silenceAfterSpeech Silence after a word that ends an utterance.
 * @property longest Length at which an utterance is cut at its last word.
 */
public data class EndpointRules(
    val silence: Double = 2.4,
    val silenceAfterSpeech: Double = 1.2,
    val longest: Double = 20.0,
) {
    init {
        require(silence > 0 && silenceAfterSpeech > 0 && longest > 0) { "endpoint rules: expected seconds above 0, found $this" }
    }
}

/**
 * How a model is run; the defaults suit dictation and captions on a phone.
 *
 * @property engine What runs the model.
 * @property precision Which of its graphs.
 * @property threads Threads for one step; a small model gains nothing from more than one, and tract takes one in any case.
 * @property parallel Recognizers that may be in a step at the same time; more of them wait for one another. On ONNX Runtime each
 *   costs a copy of the weights; on tract all may be, whatever this says.
 * @property beam Hypotheses that a beam search keeps; 0 searches greedily, which is fastest.
 * @property alternatives Alternatives that a final segment brings along at most; only a beam has any.
 * @property languageModel Whether to ask the language model of the package, if it has one.
 * @property endpoint When an utterance is over.
 */
public data class ModelOptions(
    val engine: Engine = Engine.AUTO,
    val precision: Precision = Precision.AUTO,
    val threads: Int = 1,
    val parallel: Int = 1,
    val beam: Int = 0,
    val alternatives: Int = 0,
    val languageModel: Boolean = false,
    val endpoint: EndpointRules = EndpointRules(),
) {
    init {
        require(threads in 1..64) { "threads: expected 1 to 64, found $threads" }
        require(parallel in 1..64) { "parallel: expected 1 to 64, found $parallel" }
        require(beam in 0..4096) { "beam: expected 0 to 4096, found $beam" }
        require(alternatives in 0..1000) { "alternatives: expected 0 to 1000, found $alternatives" }
    }
}
