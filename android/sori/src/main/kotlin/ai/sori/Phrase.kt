package ai.sori

/**
 * What is likely to be said, for [Recognizer.setPhrases]: a name, a command, a contact. It is taken as it is: a number in it
 * is a word like another.
 *
 * @property text One word or several.
 * @property boost What each letter counts for, -20 to 20; much more than 1 has phrases heard in silence.
 */
public data class Phrase
    @JvmOverloads
    constructor(
        val text: String,
        val boost: Float = 0.5f,
    ) {
        init {
            require(boost in -20f..20f) { "boost: expected -20 to 20, found $boost" }
        }
    }

/**
 * What came of [Recognizer.setPhrases].
 *
 * @property events The last words of the utterance that it ended.
 * @property leftOut Phrases that the model cannot say: empty, longer than 1000 bytes, or with letters that its tokens lack.
 */
public data class PhrasesResult(
    val events: List<SpeechEvent>,
    val leftOut: List<Phrase>,
)
