package ai.sori

import java.io.FileNotFoundException
import java.io.InputStream
import java.nio.Buffer
import java.nio.ByteBuffer

/** The Rust side. Handles are numbers that it looks up: one that was closed throws [ClosedException]. */
internal object Native {
    init {
        System.loadLibrary("sori_android")
    }

    external fun packageFromDirectory(directory: String): Long

    external fun packageFromFiles(files: PackageFiles, engine: Int, precision: Int, languageModel: Boolean): Long

    external fun openModel(
        packageHandle: Long,
        engine: Int,
        precision: Int,
        threads: Int,
        parallel: Int,
        beam: Int,
        alternatives: Int,
        languageModel: Boolean,
        silence: Double,
        silenceAfterSpeech: Double,
        longest: Double,
    ): Long

    external fun engine(model: Long): String

    external fun closeModel(model: Long)

    external fun openStream(model: Long): Long

    external fun acceptShorts(stream: Long, sampleRate: Int, samples: ShortArray, count: Int, sink: EventSink)

    external fun acceptFloats(stream: Long, sampleRate: Int, samples: FloatArray, count: Int, sink: EventSink)

    external fun finish(stream: Long, sink: EventSink)

    external fun endUtterance(stream: Long, sink: EventSink)

    /** The places of those that were left out. */
    external fun setPhrases(stream: Long, texts: Array<String>, boosts: FloatArray, sink: EventSink): IntArray

    external fun setGrammar(stream: Long, grammar: String, sink: EventSink)

    external fun reset(stream: Long)

    external fun closeStream(stream: Long)
}

/** The files of a package, which Rust asks for by name. */
internal class PackageFiles(private val open: (String) -> InputStream) {
    /** The whole of a file in a direct buffer of just that size, or null if there is none. */
    @Suppress("unused") // Rust calls it.
    fun read(name: String): ByteBuffer? {
        val stream =
            try {
                open(name)
            } catch (_: FileNotFoundException) {
                return null
            }
        // Where Rust reads it without another copy.
        return stream.use {
            var bytes = ByteBuffer.allocateDirect(it.available().coerceAtLeast(FIRST))
            val piece = ByteArray(PIECE)
            while (true) {
                val count = it.read(piece)
                if (count < 0) break
                if (bytes.remaining() < count) {
                    val size = maxOf(2L * bytes.capacity(), bytes.position().toLong() + count).coerceAtMost(Int.MAX_VALUE.toLong())
                    flip(bytes)
                    bytes = ByteBuffer.allocateDirect(size.toInt()).put(bytes)
                }
                bytes.put(piece, 0, count)
            }
            flip(bytes)
            bytes.slice()
        }
    }

    // Older phones know no `flip` of ByteBuffer's own.
    private fun flip(buffer: Buffer) {
        buffer.flip()
    }

    private companion object {
        const val FIRST = 4_096
        const val PIECE = 65_536
    }
}

/** Makes events of what Rust tells: words and alternatives first, then what they are of. */
@Suppress("unused") // Rust calls all of it.
internal class EventSink {
    val events: MutableList<SpeechEvent> = ArrayList()
    private var words = ArrayList<Word>()
    private var alternatives = ArrayList<Alternative>()

    fun word(text: String, start: Double, end: Double, confidence: Float) {
        words.add(Word(text, start, end, confidence))
    }

    fun alternative(text: String, score: Float) {
        alternatives.add(Alternative(text, score))
    }

    fun segment(
        complete: Boolean,
        text: String,
        start: Double,
        end: Double,
        confidence: Float,
        outOfGrammar: Boolean,
    ) {
        val segment = Segment(text, start, end, confidence, words, alternatives, outOfGrammar)
        words = ArrayList()
        alternatives = ArrayList()
        events.add(if (complete) SpeechEvent.Final(segment) else SpeechEvent.Partial(segment))
    }

    fun endpoint(time: Double, rule: Int) {
        events.add(SpeechEvent.Endpoint(time, EndpointRule.entries[rule]))
    }
}
