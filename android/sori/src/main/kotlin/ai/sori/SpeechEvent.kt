package ai.sori

/** What a [Recognizer] has to say. Times are seconds from the start of the audio. */
public sealed class SpeechEvent {
    /** The utterance so far. Each replaces the one before it; one without words takes it back. */
    public data class Partial(val segment: Segment) : SpeechEvent()

    /** A finished utterance; it does not change any more. */
    public data class Final(val segment: Segment) : SpeechEvent()

    /** The utterance is over, after its [Final] if it had words. */
    public data class Endpoint(val time: Double, val rule: EndpointRule) : SpeechEvent()
}

/**
 * A stretch of speech.
 *
 * @property text The words, joined by single spaces.
 * @property start Start of the first word, in seconds.
 * @property end End of the last word, in seconds.
 * @property confidence 0 to 1, over all words.
 * @property words In order of time.
 * @property alternatives What else it may have been, best first; see [ModelOptions.alternatives].
 * @property outOfGrammar Whether it was none of the sentences of [Recognizer.setGrammar]; it then has no words.
 */
public data class Segment(
    val text: String,
    val start: Double,
    val end: Double,
    val confidence: Float,
    val words: List<Word>,
    val alternatives: List<Alternative>,
    val outOfGrammar: Boolean = false,
)

/** A word and when it was said, in seconds; [confidence] is 0 to 1. */
public data class Word(
    val text: String,
    val start: Double,
    val end: Double,
    val confidence: Float,
)

/** Another reading of a segment; [score] is the logarithm of its probability, for comparison within the segment. */
public data class Alternative(val text: String, val score: Float)

/** Why an utterance is over. */
public enum class EndpointRule {
    /** Nothing was said for a while. */
    SILENCE,

    /** There was silence after a word. */
    SILENCE_AFTER_SPEECH,

    /** The utterance was as long as one may be. */
    LONGEST,
}
