// The market's messages, from docs/protocol.md and proto/: framing, what an advertisement and an announcement must prove, and how a quote is
// asked for. Nothing of the node's own code is used.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { publicKeyFromProtobuf } from '@libp2p/crypto/keys'
import { peerIdFromPublicKey } from '@libp2p/peer-id'
import protobuf from 'protobufjs'
import { concatBytes, hashTypedData, keccak256, recoverAddress, toBytes, toHex } from 'viem'
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts'

const PROTO = fileURLToPath(new URL('../../proto/', import.meta.url))
const root = new protobuf.Root()
root.resolvePath = (_, target) => (target.startsWith('/') ? target : PROTO + target)
root.loadSync(['offers', 'rental', 'search', 'session', 'sync'].map((name) => `${PROTO}gpulease/v1/${name}.proto`), {
  keepCase: true,
})
const type = (name) => root.lookupType(`gpulease.v1.${name}`)

// libp2p's SignedEnvelope (RFC 0002).
const envelopeType = protobuf.parse(
  'syntax = "proto3"; message Envelope { bytes public_key = 1; bytes payload_type = 2; bytes payload = 3; bytes signature = 5; }',
  { keepCase: true },
).root.lookupType('Envelope')

const text = new TextEncoder()
const hex = (bytes) => toHex(bytes)

export const encode = (name, message) => type(name).encode(type(name).fromObject(message)).finish()
export const decode = (name, bytes) => type(name).toObject(type(name).decode(bytes), { longs: String, defaults: true })
export const refusalName = (code) => root.lookupEnum('gpulease.v1.RefusalCode').valuesById[code]

/** An unsigned varint. */
export function varint(number) {
  const bytes = []
  for (; number > 127; number = Math.floor(number / 128)) bytes.push((number & 127) | 128)
  return Uint8Array.from([...bytes, number])
}

/** A message behind its length. */
export const framed = (bytes) => concatBytes([varint(bytes.length), bytes])

/** The message in a frame. */
export function unframed(bytes) {
  let [length, at, scale] = [0, 0, 1]
  do {
    if (at >= bytes.length) throw new Error('no whole length came')
    length += (bytes[at] & 127) * scale
    scale *= 128
  } while (bytes[at++] & 128)
  if (bytes.length - at !== length) throw new Error(`a message of ${length} bytes has ${bytes.length - at}`)
  return bytes.subarray(at)
}

export const topic = (network, gpuClass) => `/gpulease/1/${network}/ads/${gpuClass}`

/** The gossip message id: the first 20 bytes of keccak256(topic ‖ 0x00 ‖ data). */
export const messageId = ({ topic, data }) =>
  toBytes(keccak256(concatBytes([text.encode(topic), Uint8Array.of(0), data]))).subarray(0, 20)

function must(condition, what) {
  if (!condition) throw new Error(`does not hold: ${what}`)
}

const samePeer = (key, bytes) => hex(peerIdFromPublicKey(key).toMultihash().bytes) === hex(bytes)

/** Checks an announcement that came on the topic of a class, and gives what it says. */
export async function openAnnouncement(data, gpuClass) {
  must(data.length <= 1024, 'an announcement has at most 1 KiB')
  const { body, signature, public_key } = decode('Announcement', data)
  const key = publicKeyFromProtobuf(public_key)
  must(await key.verify(concatBytes([text.encode('gpulease-announcement-v1'), body]), signature), 'its signature')
  const said = decode('AnnouncementBody', body)
  must(samePeer(key, said.peer), 'the key is the peer it names')
  must(said.classes.includes(gpuClass), 'it names the class of its topic')
  must(Number(said.expires) - Number(said.seq) <= 3_600_000 && Number(said.expires) > Date.now(), 'it is in force')
  return said
}

/** Checks an advertisement: the envelope, its key, its times, and the wallet's EIP-712 signature of the binding. */
export async function openAd(raw) {
  must(raw.length <= 16 * 1024, 'an advertisement has at most 16 KiB')
  const { public_key, payload_type, payload, signature } = envelopeType.decode(raw)
  const parts = [text.encode('gpulease-ad-v1'), payload_type, payload]
  const signed = concatBytes(parts.flatMap((part) => [varint(part.length), part]))
  must(hex(payload_type) === hex(text.encode('/gpulease/ad/1')), 'the payload type')
  const key = publicKeyFromProtobuf(public_key)
  must(await key.verify(signed, signature), "the envelope's signature")
  const ad = decode('ProviderAd', payload)
  must(samePeer(key, ad.peer), "the envelope's key is the peer")
  must(Number(ad.seq) <= Date.now() + 30_000 && Number(ad.expires) > Date.now(), 'its times')
  const { binding } = ad
  const digest = hashTypedData({
    domain: { name: 'gpulease', version: '1', chainId: Number(binding.chain) },
    types: {
      NodeBinding: [
        { name: 'peerId', type: 'bytes' },
        { name: 'providerKey', type: 'address' },
        { name: 'wallet', type: 'address' },
        { name: 'role', type: 'string' },
        { name: 'issuedAt', type: 'uint64' },
        { name: 'expires', type: 'uint64' },
      ],
    },
    primaryType: 'NodeBinding',
    message: {
      peerId: hex(ad.peer),
      providerKey: hex(binding.provider_key),
      wallet: hex(binding.wallet),
      role: 'provider',
      issuedAt: BigInt(binding.issued_at),
      expires: BigInt(binding.expires),
    },
  })
  const signer = await recoverAddress({ hash: digest, signature: hex(binding.signature) })
  must(signer.toLowerCase() === hex(binding.wallet), "the wallet's signature of the binding")
  return { ad, hash: keccak256(raw) }
}

const escrowDomain = (settlement) => ({
  name: 'gpulease',
  version: '1',
  chainId: Number(settlement.chain),
  verifyingContract: hex(settlement.escrow),
})

/** A request for a quote on the first price of an offer, signed by the wallet. */
export async function askQuote(wallet, renterPeer, ad, offer) {
  const [price] = offer.prices
  const session = privateKeyToAccount(generatePrivateKey())
  const at = Math.floor(Date.now() / 1000)
  const body = encode('QuoteRequestBody', {
    settlement: price.settlement,
    token: price.token.address,
    wallet: toBytes(wallet.address),
    renter_key: toBytes(session.address),
    at,
    offer: offer.name,
    rate: price.rate,
    max_seconds: Math.max(offer.min_seconds, 60),
    deposit: String(BigInt(price.min_deposit) * 2n),
    workload: { host_usr: {} },
  })
  const signature = await wallet.signTypedData({
    domain: escrowDomain(price.settlement),
    types: {
      QuoteRequest: [
        { name: 'renterPeer', type: 'bytes' },
        { name: 'providerPeer', type: 'bytes' },
        { name: 'wallet', type: 'address' },
        { name: 'renterKey', type: 'address' },
        { name: 'request', type: 'bytes32' },
        { name: 'at', type: 'uint64' },
      ],
    },
    primaryType: 'QuoteRequest',
    message: {
      renterPeer: hex(renterPeer),
      providerPeer: hex(ad.peer),
      wallet: wallet.address,
      renterKey: session.address,
      request: keccak256(body),
      at: BigInt(at),
    },
  })
  return encode('RentalRequest', { quote: { body, signature: toBytes(signature) } })
}

/** Checks a quote: the terms it stands for, the wallet it is from, and the provider key's signature. Gives its id. */
export async function openQuote(reply, ad, wallet) {
  const { terms, quote, signature } = reply
  must(hex(quote.spec) === keccak256(terms), 'the spec is the hash of the terms')
  must(hex(quote.provider) === hex(ad.binding.wallet), 'it is from the bound wallet')
  must(hex(quote.renter) === wallet.address.toLowerCase(), 'it is for the wallet that asked')
  const uint = (name, bits) => ({ name, type: `uint${bits}` })
  const address = (name) => ({ name, type: 'address' })
  const digest = hashTypedData({
    domain: escrowDomain(quote.settlement),
    types: {
      Quote: [
        ...['provider', 'providerKey', 'renter', 'renterKey', 'token'].map(address),
        uint('rate', 96),
        uint('minDeposit', 96),
        ...['maxSeconds', 'window', 'expiry'].map((name) => uint(name, 32)),
        address('arbiter'),
        { name: 'device', type: 'bytes32' },
        { name: 'spec', type: 'bytes32' },
      ],
    },
    primaryType: 'Quote',
    message: {
      provider: hex(quote.provider),
      providerKey: hex(quote.provider_key),
      renter: hex(quote.renter),
      renterKey: hex(quote.renter_key),
      token: hex(quote.token),
      rate: BigInt(quote.rate),
      minDeposit: BigInt(quote.min_deposit),
      maxSeconds: quote.max_seconds,
      window: quote.window,
      expiry: quote.expiry,
      arbiter: quote.arbiter.length === 0 ? `0x${'0'.repeat(40)}` : hex(quote.arbiter),
      device: hex(quote.device),
      spec: hex(quote.spec),
    },
  })
  const signer = await recoverAddress({ hash: digest, signature: hex(signature) })
  must(signer.toLowerCase() === hex(ad.binding.provider_key), "the provider key's signature")
  return digest
}

/** The list of what a peer of the market holds: `/gpulease/offers/1`, page by page. */
export async function list(ask, gpuClass) {
  const ads = []
  let after = new Uint8Array()
  do {
    const answer = await ask('/gpulease/offers/1', encode('OffersRequest', { list: { class: gpuClass, after, limit: 64 } }))
    const page = decode('OffersResponse', answer)
    for (const raw of page.ads) ads.push(await openAd(raw))
    after = page.next
  } while (after.length > 0)
  return ads
}

export const readNetwork = (path) => JSON.parse(readFileSync(path, 'utf8'))
