package ai.sori

/**
 * A source of mono 16-bit samples for [Recognizer.listen].
 *
 * All calls come from one background thread of the recognizer's: [start], then [read] again and again, after
 * [Recognizer.stop] once [remaining], then [close], whatever happened before. A flow that is over before it begins calls
 * [close] only.
 */
public interface AudioSource : AutoCloseable {
    /** Samples per second, 8,000 to 192,000. */
    public val sampleRate: Int

    /** Begins. What it throws, the flow of [Recognizer.listen] throws. */
    public fun start()

    /**
     * Waits for samples and writes them to the beginning of [samples]. It should not wait for more than a second, or
     * else end when its thread is interrupted, which is what a cancelled flow does.
     *
     * @return how many, or -1 at the end of the audio.
     */
    public fun read(samples: ShortArray): Int

    /**
     * What was recorded and not read yet, without waiting for more: it was said before [Recognizer.stop]. Nothing, of a
     * source that keeps nothing.
     */
    public fun remaining(): ShortArray = ShortArray(0)

    override fun close()
}
