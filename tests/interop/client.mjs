// A js-libp2p peer in a market of ours: it lists, checks every signature, hears an announcement, asks for a quote. Then another peer sends garbage,
// and the first does everything again. `client.mjs DEVNET_JSON WALLET_KEY`; exits 1 at the first thing that does not hold.

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { gossipsub } from '@libp2p/gossipsub'
import { identify } from '@libp2p/identify'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { concatBytes, toHex } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import * as market from './market.mjs'

const GPU_CLASS = 'cpu'
/** Nothing on one machine takes longer. */
const LIMIT = 30_000

const network = market.readNetwork(process.argv[2])
const wallet = privateKeyToAccount(process.argv[3])
const addressOf = (role) => multiaddr(network.nodes.find((node) => node.roles.includes(role)).address)
const say = (what) => console.log(`  js  ${what}`)

async function peer() {
  const node = await createLibp2p({
    transports: [tcp()],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    services: {
      identify: identify(),
      ping: ping(),
      pubsub: gossipsub({ globalSignaturePolicy: 'StrictNoSign', msgIdFn: market.messageId, emitSelf: false }),
    },
  })
  for (const role of ['indexer', 'provider']) await node.dial(addressOf(role))
  return node
}

/** Bytes to a protocol of a node, and all that comes back. */
async function exchange(node, to, protocol, bytes, wait = LIMIT) {
  const signal = AbortSignal.timeout(wait)
  const stream = await node.dialProtocol(to, protocol, { signal })
  signal.addEventListener('abort', () => stream.abort(new Error(`no answer on ${protocol} within ${wait} ms`)))
  const parts = []
  const reading = (async () => {
    for await (const part of stream) parts.push(part.subarray())
  })()
  const writing = (async () => {
    for (let at = 0; at < bytes.length; at += 16_384) {
      if (!stream.send(bytes.subarray(at, at + 16_384))) await stream.onDrain({ signal })
    }
    await stream.close({ signal })
  })()
  // whoever is refused while it still writes has its answer all the same
  await Promise.all([reading, writing.catch(() => {})])
  return concatBytes(parts)
}

const asker = (node, to) => async (protocol, message) =>
  market.unframed(await exchange(node, to, protocol, market.framed(message)))

async function quote(node, ad) {
  const offer = ad.offers[0]
  const request = await market.askQuote(wallet, node.peerId.toMultihash().bytes, ad, offer)
  const answer = market.decode('RentalResponse', await asker(node, addressOf('provider'))('/gpulease/rental/1', request))
  if (answer.quote?.quote) {
    say(`a quote on ${offer.name}, rental ${await market.openQuote(answer.quote, ad, wallet)}`)
    return
  }
  // the hold of the last quote lasts until the chain's time passes it: then only a typed refusal says that we were served
  const { code, detail } = answer.refusal
  say(`a typed refusal, ${market.refusalName(code)}: ${detail}`)
  if (!['REFUSAL_CODE_HOLD_IN_USE', 'REFUSAL_CODE_BUSY_UNTIL'].includes(market.refusalName(code))) {
    throw new Error(`refused: ${detail}`)
  }
}

async function first(node) {
  const heard = announcement(node)
  const [{ ad, hash }] = await listed(node)
  await quote(node, ad)
  const said = await heard
  say(`an announcement of ${toHex(said.peer).slice(0, 14)}…, seq ${said.seq}, verified`)
  return { ad, hash }
}

async function listed(node) {
  for (const role of ['indexer', 'provider']) {
    const ads = await market.list(asker(node, addressOf(role)), GPU_CLASS)
    say(`${ads.length} advertisement(s) listed by the ${role}; envelope, key and wallet binding verified`)
    if (ads.length === 0) throw new Error(`the ${role} lists nothing`)
    if (role === 'provider') return ads
  }
}

/** The next announcement of the class that comes by gossip. */
function announcement(node) {
  const pubsub = node.services.pubsub
  const topic = market.topic(network.network, GPU_CLASS)
  const heard = new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error('no announcement came')), LIMIT * 10)
    pubsub.addEventListener('message', async ({ detail }) => {
      if (detail.topic !== topic) return
      clearTimeout(late)
      await market.openAnnouncement(detail.data, GPU_CLASS).then(resolve, reject)
    })
  })
  pubsub.subscribe(topic)
  return heard
}

/** Everything that no honest peer sends. That it is refused is expected; that anything else happens is looked for afterwards. */
async function vandalise(node) {
  const random = (length) => {
    const bytes = new Uint8Array(length)
    for (let at = 0; at < length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536))
    return bytes
  }
  const claims = (length, bytes) => concatBytes([market.varint(length), bytes])
  const garbage = [
    new Uint8Array(), // nothing at all
    Uint8Array.of(0), // an empty message
    new Uint8Array(64).fill(0xff), // no end of the length
    claims(2 ** 40, random(100)), // a terabyte, it says
    claims(500, random(10)), // cut short
    market.framed(random(1_000)), // no protobuf
    market.framed(random(3 << 20)), // longer than anything may be
    market.framed(market.encode('OffersRequest', { get: { peers: Array(400).fill(random(38)) } })),
  ]
  const streams = ['provider', 'indexer'].flatMap((role) =>
    ['offers', 'rental', 'session', 'search', 'sync'].flatMap((protocol) =>
      garbage.map((bytes) => exchange(node, addressOf(role), `/gpulease/${protocol}/1`, bytes, 5_000).catch(() => [])),
    ),
  )
  const answered = (await Promise.all(streams)).filter((answer) => answer.length > 0).length
  const topic = market.topic(network.network, GPU_CLASS)
  const forged = market.encode('Announcement', {
    body: market.encode('AnnouncementBody', { peer: random(38), seq: Date.now(), expires: Date.now() + 60_000, classes: [GPU_CLASS] }),
    signature: random(64),
    public_key: random(36),
  })
  node.services.pubsub.subscribe(topic)
  const announcements = [...Array(200)].map(() => random(200)).concat([random(2_048), forged])
  for (const data of announcements) await node.services.pubsub.publish(topic, data).catch(() => {})
  say(`garbage: ${streams.length} streams, ${answered} of them answered; ${announcements.length} announcements`)
}

const innocent = await peer()
const { hash } = await first(innocent)
const vandal = await peer()
await vandalise(vandal)
await vandal.stop()
const again = await listed(innocent)
await quote(innocent, again[0].ad)
const newcomer = await peer()
const [same] = await listed(newcomer)
say(`served as before the garbage (${hash === same.hash ? 'the same advertisement' : 'a newer advertisement'})`)
await innocent.stop()
await newcomer.stop()
process.exit(0)
