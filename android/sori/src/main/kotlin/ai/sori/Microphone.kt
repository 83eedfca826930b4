package ai.sori

import android.Manifest
import android.content.Context
import android.content.pm.PackageManager
import android.media.AudioFormat
import android.media.AudioManager
import android.media.AudioRecord
import android.media.MediaRecorder
import android.os.Process

/**
 * The device's microphone. The app needs the permission `RECORD_AUDIO` before it listens.
 *
 * While it records it holds the audio focus, so that music pauses; when another app takes the focus (a call, an
 * assistant), the audio ends: the last words come, and the flow completes.
 *
 * @property sampleRate Samples per second; every device has 16,000 or resamples to it.
 * @param holdFocus Whether to ask for the audio focus.
 */
public class Microphone
    @JvmOverloads
    constructor(
        context: Context,
        override val sampleRate: Int = 16_000,
        private val holdFocus: Boolean = true,
    ) : AudioSource {
        // An activity must not be kept alive by a recording.
        private val context: Context = context.applicationContext ?: context
        private val manager = this.context.getSystemService(Context.AUDIO_SERVICE) as AudioManager
        private var record: AudioRecord? = null

        @Volatile private var focusLost = false
        private val onFocus =
            AudioManager.OnAudioFocusChangeListener { change ->
                if (change == AudioManager.AUDIOFOCUS_LOSS || change == AudioManager.AUDIOFOCUS_LOSS_TRANSIENT) focusLost = true
            }

        /** @throws MicrophoneException without the permission, without the focus, or when the device refuses. */
        override fun start() {
            if (context.checkSelfPermission(Manifest.permission.RECORD_AUDIO) != PackageManager.PERMISSION_GRANTED) {
                throw MicrophoneException("microphone: the app lacks the permission RECORD_AUDIO; ask for it before listening")
            }
            Process.setThreadPriority(Process.THREAD_PRIORITY_AUDIO)
            focusLost = false
            if (holdFocus && !requestFocus()) {
                throw MicrophoneException("microphone: another app holds the audio focus, as in a call; listen again later")
            }
            val record = open()
            this.record = record
            record.startRecording()
            if (record.recordingState != AudioRecord.RECORDSTATE_RECORDING) {
                throw MicrophoneException("microphone: it does not start; another app may be recording")
            }
        }

        override fun read(samples: ShortArray): Int {
            val record = record
            if (focusLost || record == null) return -1
            val count = record.read(samples, 0, samples.size)
            if (count < 0) throw MicrophoneException("microphone: reading failed (AudioRecord error $count); listen again")
            return count
        }

        override fun remaining(): ShortArray {
            val record = record ?: return ShortArray(0)
            val samples = ShortArray(record.bufferSizeInFrames)
            val count = record.read(samples, 0, samples.size, AudioRecord.READ_NON_BLOCKING)
            return samples.copyOf(maxOf(count, 0))
        }

        override fun close() {
            record?.release()
            record = null
            if (holdFocus) abandonFocus()
        }

        private fun open(): AudioRecord {
            val channel = AudioFormat.CHANNEL_IN_MONO
            val encoding = AudioFormat.ENCODING_PCM_16BIT
            val least = AudioRecord.getMinBufferSize(sampleRate, channel, encoding)
            // Two seconds: what is said while the device is busy is not lost.
            val bytes = maxOf(least, SLACK_SECONDS * sampleRate * Short.SIZE_BYTES)
            val record =
                try {
                    AudioRecord(MediaRecorder.AudioSource.VOICE_RECOGNITION, sampleRate, channel, encoding, bytes)
                } catch (e: IllegalArgumentException) {
                    throw MicrophoneException("microphone: a rate of $sampleRate Hz is refused (${e.message}); use 16000")
                }
            if (record.state != AudioRecord.STATE_INITIALIZED) {
                record.release()
                throw MicrophoneException("microphone: it cannot be opened at $sampleRate Hz; another app may be recording")
            }
            return record
        }

        // The calls that all versions from 24 on have; AudioFocusRequest came with 26.
        @Suppress("DEPRECATION")
        private fun requestFocus(): Boolean =
            manager.requestAudioFocus(onFocus, AudioManager.STREAM_MUSIC, AudioManager.AUDIOFOCUS_GAIN_TRANSIENT) ==
                AudioManager.AUDIOFOCUS_REQUEST_GRANTED

        @Suppress("DEPRECATION")
        private fun abandonFocus() {
            manager.abandonAudioFocus(onFocus)
        }

        private companion object {
            const val SLACK_SECONDS = 2
        }
    }
