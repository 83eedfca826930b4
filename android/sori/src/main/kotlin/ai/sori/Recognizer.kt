package ai.sori

import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.isActive
import kotlinx.coroutines.withContext
import java.util.concurrent.atomic.AtomicLong
import java.util.concurrent.atomic.AtomicReference

/**
 * One source of audio on its way to words.
 *
 * Either [listen] to an [AudioSource], or give samples by [accept]. Any thread may use it: calls run one after the
 * other. [accept] computes, so keep it off the main thread.
 */
public class Recognizer internal constructor(handle: Long) : AutoCloseable {
    private val handle = AtomicLong(handle)
    private val current = AtomicReference<Listening?>()

    /**
     * Hears the first [count] of 16-bit mono [samples] and returns what there is to say now. Pieces of any size give
     * the same events.
     *
     * @throws AudioException for a sample rate outside of 8,000 to 192,000 Hz.
     * @throws EngineException when a step fails.
     * @throws ClosedException when the recognizer is closed.
     */
    @JvmOverloads
    @Throws(SoriException::class)
    public fun accept(
        samples: ShortArray,
        sampleRate: Int = SAMPLE_RATE,
        count: Int = samples.size,
    ): List<SpeechEvent> {
        checkCount(count, samples.size)
        return alone { Native.acceptShorts(handle.get(), sampleRate, samples, count, it) }
    }

    /** Hears mono samples in -1 to 1, as [accept] does 16-bit ones. */
    @JvmOverloads
    @Throws(SoriException::class)
    public fun accept(
        samples: FloatArray,
        sampleRate: Int = SAMPLE_RATE,
        count: Int = samples.size,
    ): List<SpeechEvent> {
        checkCount(count, samples.size)
        return alone { Native.acceptFloats(handle.get(), sampleRate, samples, count, it) }
    }

    /** Ends the audio and returns the last words; the recognizer is then at time 0, ready for other audio. */
    @Throws(SoriException::class)
    public fun finish(): List<SpeechEvent> = alone { Native.finish(handle.get(), it) }

    /** Drops everything heard: the recognizer is at time 0 again. */
    @Throws(SoriException::class)
    public fun reset() {
        alone { Native.reset(handle.get()) }
    }

    /**
     * Ends the utterance here and now. Sound that does not fill a chunk yet is heard with the next one and belongs to the
     * next utterance; where the source pauses, as behind a button that was let go, [finish] hears it all.
     */
    @Throws(SoriException::class)
    public fun endUtterance(): List<SpeechEvent> = alone { Native.endUtterance(handle.get(), it) }

    /**
     * Ends the utterance, then prefers these phrases (names, commands, contacts), or none. Those that the model cannot
     * spell are left out, and returned.
     *
     * @throws PhrasesException when there are more than 100,000, or they have more than 2,000,000 letters in all.
     */
    @Throws(SoriException::class)
    public fun setPhrases(phrases: Collection<Phrase>): PhrasesResult {
        val list = phrases.toList()
        val texts = Array(list.size) { list[it].text }
        val boosts = FloatArray(list.size) { list[it].boost }
        var leftOut = IntArray(0)
        val events = alone { leftOut = Native.setPhrases(handle.get(), texts, boosts, it) }
        return PhrasesResult(events, leftOut.map { list[it] })
    }

    /**
     * Ends the utterance, then hears sentences of [grammar] only: a sentence per line, or JSGF. Other speech gives a
     * final segment that is [Segment.outOfGrammar]. An empty text ends that.
     *
     * @throws GrammarException when it is no grammar, or the model cannot spell it.
     */
    @Throws(SoriException::class)
    public fun setGrammar(grammar: String): List<SpeechEvent> = alone { Native.setGrammar(handle.get(), grammar, it) }

    /**
     * Listens to [source] while the flow is collected, on a thread of its own.
     *
     * - The flow completes when the source ends, after [stop], or when the recognizer is closed. It throws what the
     *   source throws, and [SoriException], after the words from before.
     * - When its collector is cancelled, the source is closed and what was heard is dropped.
     * - Audio never waits for the collector: a slow one misses partial events that newer ones replaced, and no other.
     * - One flow at a time: a second collector gets an [IllegalStateException].
     */
    public fun listen(source: AudioSource): Flow<SpeechEvent> =
        flow {
            val listening = Listening(source)
            check(current.compareAndSet(null, listening)) { "recognizer: it is listening already; stop that flow first, or open another recognizer" }
            try {
                listening.cancelled = !currentCoroutineContext().isActive
                listening.thread.start()
                while (true) emit(listening.mailbox.take() ?: break)
            } finally {
                listening.cancelled = true
                listening.thread.interrupt()
                withContext(NonCancellable + Dispatchers.IO) {
                    // Only when the source is closed may another flow begin. Nothing after this block runs
                    // in a cancelled flow.
                    listening.thread.join()
                    current.set(null)
                }
            }
        }

    /**
     * Ends what [listen] hears, as if its source had ended: what was recorded until now is heard, the last words come, and
     * the flow completes.
     *
     * @return whether it was listening. A flow that is not collected yet begins all the same; to have it not begin, cancel it.
     */
    public fun stop(): Boolean {
        val listening = current.get() ?: return false
        listening.stopped = true
        return true
    }

    /** Closes the recognizer, also while it listens; closing it again does nothing. */
    override fun close() {
        Native.closeStream(handle.getAndSet(0))
    }

    /** Makes a call, unless a flow is listening. */
    private fun alone(call: (EventSink) -> Unit): List<SpeechEvent> {
        check(current.get() == null) { "recognizer: it is listening; stop that flow first, or open another recognizer" }
        return EventSink().also(call).events
    }

    private fun checkCount(count: Int, size: Int) {
        require(count in 0..size) { "count: expected 0 to $size, found $count" }
    }

    /** A source on its way to a flow. */
    private inner class Listening(private val source: AudioSource) {
        val mailbox = Mailbox()

        @Volatile var stopped = false

        @Volatile var cancelled = false
        val thread = Thread({ run() }, "sori")

        private fun run() {
            val heard = runCatching { source.use { hear(it) } }
            val ended =
                runCatching {
                    if (cancelled) Native.reset(handle.get()) else tell { Native.finish(handle.get(), it) }
                }
            // An engine that fails leaves the words from before to the next call.
            if (ended.isFailure) runCatching { tell { Native.endUtterance(handle.get(), it) } }
            val failure = heard.exceptionOrNull() ?: ended.exceptionOrNull()
            mailbox.end(failure.takeUnless { it is ClosedException })
        }

        private fun hear(source: AudioSource) {
            // Nobody is recorded for a flow that is over.
            if (stopped || cancelled) return
            source.start()
            val samples = ShortArray((source.sampleRate / PIECES_PER_SECOND).coerceIn(1, MOST_SAMPLES))
            while (!stopped && !cancelled) {
                val count = source.read(samples)
                if (count < 0) return
                accept(samples, count)
            }
            if (cancelled) return
            val remaining = source.remaining()
            accept(remaining, remaining.size)
        }

        private fun accept(samples: ShortArray, count: Int) {
            tell { Native.acceptShorts(handle.get(), source.sampleRate, samples, count, it) }
        }

        private fun tell(call: (EventSink) -> Unit) {
            EventSink().also(call).events.forEach(mailbox::put)
        }
    }

    private companion object {
        const val SAMPLE_RATE = 16_000
        const val PIECES_PER_SECOND = 10
        const val MOST_SAMPLES = 19_200
    }
}
