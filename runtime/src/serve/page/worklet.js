// Turns what the microphone gives into pieces of 40 ms: sound as 16-bit samples, and how loud it was.
class Pieces extends AudioWorkletProcessor {
  constructor() {
    super();
    this.begin();
  }

  begin() {
    this.piece = new Int16Array(Math.round(sampleRate / 25));
    this.filled = 0;
    this.peak = 0;
  }

  process([channels]) {
    const [first, ...others] = channels;
    if (!first) return true;
    for (let i = 0; i < first.length; i += 1) {
      let sample = first[i];
      for (const other of others) sample += other[i];
      sample = Math.max(-1, Math.min(1, sample / channels.length));
      this.peak = Math.max(this.peak, Math.abs(sample));
      this.piece[this.filled] = Math.round(sample * 32767);
      this.filled += 1;
      if (this.filled === this.piece.length) this.give();
    }
    return true;
  }

  give() {
    const samples = this.piece.buffer;
    // The buffer goes along: afterwards there is none here.
    this.port.postMessage({ samples, peak: this.peak }, [samples]);
    this.begin();
  }
}

registerProcessor('pieces', Pieces);
