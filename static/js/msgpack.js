/** A complete MessagePack decoder; 64-bit integers outside the safe range become BigInt. */

const utf8 = new TextDecoder("utf-8", { fatal: true });

class Reader {
  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  /** @param {number} length @returns {Uint8Array} */
  take(length) {
    if (this.at + length > this.bytes.length) throw new RangeError("the MessagePack frame is cut off");
    this.at += length;
    return this.bytes.subarray(this.at - length, this.at);
  }

  /** An unsigned integer of 1, 2 or 4 bytes. @param {1 | 2 | 4} size @returns {number} */
  uint(size) {
    const at = this.at;
    this.take(size);
    if (size === 1) return this.view.getUint8(at);
    return size === 2 ? this.view.getUint16(at) : this.view.getUint32(at);
  }

  /** A signed integer of 1, 2 or 4 bytes. @param {1 | 2 | 4} size @returns {number} */
  int(size) {
    const at = this.at;
    this.take(size);
    if (size === 1) return this.view.getInt8(at);
    return size === 2 ? this.view.getInt16(at) : this.view.getInt32(at);
  }

  /** @param {boolean} signed @returns {number | bigint} */
  wide(signed) {
    const at = this.at;
    this.take(8);
    const big = signed ? this.view.getBigInt64(at) : this.view.getBigUint64(at);
    const small = Number(big);
    return Number.isSafeInteger(small) ? small : big;
  }

  /** @param {number} length @returns {string} */
  text(length) {
    return utf8.decode(this.take(length));
  }

  /** @param {number} length @returns {unknown[]} */
  list(length) {
    const out = [];
    for (let i = 0; i < length; i++) out.push(this.value());
    return out;
  }

  /** @param {number} length @returns {Record<string, unknown>} */
  map(length) {
    /** @type {Record<string, unknown>} */
    const out = Object.create(null);
    for (let i = 0; i < length; i++) {
      const key = String(this.value());
      out[key] = this.value();
    }
    return out;
  }

  /** @param {4 | 8} size @returns {number} */
  float(size) {
    const at = this.at;
    this.take(size);
    return size === 4 ? this.view.getFloat32(at) : this.view.getFloat64(at);
  }

  /** @param {number} length @returns {{type: number, bytes: Uint8Array}} */
  extension(length) {
    return { type: this.int(1), bytes: this.take(length) };
  }

  /** @returns {unknown} */
  value() {
    const head = this.uint(1);
    if (head < 0x80) return head;
    if (head < 0x90) return this.map(head & 0x0f);
    if (head < 0xa0) return this.list(head & 0x0f);
    if (head < 0xc0) return this.text(head & 0x1f);
    if (head >= 0xe0) return head - 0x100;
    return this.long(head);
  }

  /** @param {number} head @returns {unknown} */
  long(head) {
    switch (head) {
      case 0xc0: return null;
      case 0xc2: return false;
      case 0xc3: return true;
      case 0xc4: return this.take(this.uint(1));
      case 0xc5: return this.take(this.uint(2));
      case 0xc6: return this.take(this.uint(4));
      case 0xc7: return this.extension(this.uint(1));
      case 0xc8: return this.extension(this.uint(2));
      case 0xc9: return this.extension(this.uint(4));
      case 0xca: return this.float(4);
      case 0xcb: return this.float(8);
      case 0xcc: return this.uint(1);
      case 0xcd: return this.uint(2);
      case 0xce: return this.uint(4);
      case 0xcf: return this.wide(false);
      case 0xd0: return this.int(1);
      case 0xd1: return this.int(2);
      case 0xd2: return this.int(4);
      case 0xd3: return this.wide(true);
      case 0xd4: return this.extension(1);
      case 0xd5: return this.extension(2);
      case 0xd6: return this.extension(4);
      case 0xd7: return this.extension(8);
      case 0xd8: return this.extension(16);
      case 0xd9: return this.text(this.uint(1));
      case 0xda: return this.text(this.uint(2));
      case 0xdb: return this.text(this.uint(4));
      case 0xdc: return this.list(this.uint(2));
      case 0xdd: return this.list(this.uint(4));
      case 0xde: return this.map(this.uint(2));
      case 0xdf: return this.map(this.uint(4));
      default: throw new TypeError(`0x${head.toString(16)} is not MessagePack`);
    }
  }
}

/**
 * Read one value; anything after it is an error.
 * @param {ArrayBuffer | Uint8Array} data
 * @returns {unknown}
 */
export function decode(data) {
  const reader = new Reader(data instanceof Uint8Array ? data : new Uint8Array(data));
  const value = reader.value();
  if (reader.at !== reader.bytes.length) throw new RangeError("more than one MessagePack value in a frame");
  return value;
}
