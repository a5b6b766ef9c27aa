"""A py-libp2p peer in a market of ours: it lists, checks every signature, hears an announcement, asks for a quote. Then another peer sends
garbage, and the first does everything again. `client.py DEVNET_JSON WALLET_KEY`; exits 1 at the first thing that does not hold."""

import json
import logging
import os
import secrets
import sys
import time
from contextlib import asynccontextmanager

import market
import trio
from eth_account import Account
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

# py-libp2p tells of every stream that the other side refuses, which is what garbage is sent for.
logging.disable(logging.ERROR)
GPU_CLASS = "cpu"
# Nothing on one machine takes longer.
LIMIT = 30
REFUSED_FOR_NOW = ["REFUSAL_CODE_HOLD_IN_USE", "REFUSAL_CODE_BUSY_UNTIL"]

with open(sys.argv[1]) as file:
    NETWORK = json.load(file)
WALLET = Account.from_key(sys.argv[2])
TOPIC = market.topic(NETWORK["network"], GPU_CLASS)


def say(what):
    print(f"  py  {what}", flush=True)


def node_of(role):
    """The address of a node with that role."""
    address = next(node["address"] for node in NETWORK["nodes"] if role in node["roles"])
    return info_from_p2p_addr(Multiaddr(address))


@asynccontextmanager
async def peer():
    """A peer connected to the indexer and the provider, and its gossip."""
    host = new_host(key_pair=create_new_key_pair(), muxer_preference="YAMUX")
    # without the library's own limits, since one of these peers is to send more than they allow
    router = GossipSub(
        ["/meshsub/1.1.0"],
        degree=4,
        degree_low=1,
        degree_high=8,
        heartbeat_interval=1,
        spam_protection_enabled=False,
    )
    gossip = Pubsub(host, router, strict_signing=False, msg_id_constructor=market.message_id)
    async with host.run(listen_addrs=[]), background_trio_service(gossip), background_trio_service(router):
        await gossip.wait_until_ready()
        for role in ["indexer", "provider"]:
            await host.connect(node_of(role))
        yield host, gossip


async def exchange(host, to, protocol, data):
    """Bytes to a protocol of a node, and all that comes back."""
    stream = await host.new_stream(to.peer_id, [protocol])
    try:
        await stream.write(data)
        await stream.close_write()
        answer = b""
        try:
            while part := await stream.read(1 << 16):
                answer += part
        except StreamEOF:
            pass
        return answer
    finally:
        with trio.move_on_after(1, shield=True):
            await stream.reset()


async def ask(host, role, protocol, message):
    with trio.fail_after(LIMIT):
        return market.unframed(await exchange(host, node_of(role), protocol, market.framed(message)))


async def listed(host):
    """What the indexer and the provider list, every signature checked."""
    ads = []
    for role in ["indexer", "provider"]:
        ads, after = [], b""
        while True:
            answer = await ask(host, role, "/gpulease/offers/1", market.list_ads(GPU_CLASS, after))
            page = market.offers_pb2.OffersResponse.FromString(answer)
            ads += [market.open_ad(raw) for raw in page.ads]
            after = page.next
            if not after:
                break
        market.must(ads, f"the {role} lists something")
        say(f"{len(ads)} advertisement(s) listed by the {role}; envelope, key and wallet binding verified")
    return ads


async def quote(host, ad):
    """Asks for a quote. After the first, whose hold lasts until the chain's time passes it, a typed refusal says that we are served."""
    offer = ad.offers[0]
    request = market.ask_quote(WALLET, host.get_id().to_bytes(), ad, offer)
    answer = market.rental_pb2.RentalResponse.FromString(await ask(host, "provider", "/gpulease/rental/1", request))
    if answer.WhichOneof("response") == "quote":
        market.open_quote(answer.quote, ad, WALLET)
        return say(f"a quote on {offer.name}, signed by the provider's key")
    code = market.rental_pb2.RefusalCode.Name(answer.refusal.code)
    say(f"a typed refusal, {code}: {answer.refusal.detail}")
    market.must(code in REFUSED_FOR_NOW, "nothing but an earlier hold stands in the way")


async def heard(subscription):
    """The next announcement that comes by gossip."""
    with trio.fail_after(10 * LIMIT):
        said = market.open_announcement((await subscription.get()).data, GPU_CLASS)
    say(f"an announcement of 0x{said.peer.hex()[:12]}…, seq {said.seq}, verified")


async def vandalise(host, gossip):
    """Everything that no honest peer sends. That it is refused is expected; that anything else happens is looked for afterwards."""
    get = market.offers_pb2.GetAds(peers=[secrets.token_bytes(38)] * 400)
    garbage = [
        b"",  # nothing at all
        b"\0",  # an empty message
        b"\xff" * 64,  # no end of the length
        market.varint(1 << 40) + secrets.token_bytes(100),  # a terabyte, it says
        market.varint(500) + secrets.token_bytes(10),  # cut short
        market.framed(secrets.token_bytes(1_000)),  # no protobuf
        market.framed(secrets.token_bytes(3 << 20)),  # longer than anything may be
        market.framed(market.offers_pb2.OffersRequest(get=get).SerializeToString()),
    ]
    answered = 0

    async def one(role, name, data):
        nonlocal answered
        with trio.move_on_after(5):
            try:
                answered += len(await exchange(host, node_of(role), f"/gpulease/{name}/1", data)) > 0
            except Exception:  # noqa: BLE001, a stream that is refused may end in any way
                pass

    async with trio.open_nursery() as nursery:
        for role in ["provider", "indexer"]:
            for name in ["offers", "rental", "session", "search", "sync"]:
                for data in garbage:
                    nursery.start_soon(one, role, name, data)
    now = int(time.time() * 1000)
    body = market.offers_pb2.AnnouncementBody(peer=secrets.token_bytes(38), seq=now, expires=now + 60_000, classes=[GPU_CLASS])
    forged = market.offers_pb2.Announcement(
        body=body.SerializeToString(), signature=secrets.token_bytes(64), public_key=secrets.token_bytes(36)
    )
    announcements = [secrets.token_bytes(200) for _ in range(200)] + [secrets.token_bytes(2_048), forged.SerializeToString()]
    for data in announcements:
        await gossip.publish(TOPIC, data)
    say(f"garbage: {len(garbage) * 10} streams, {answered} of them answered; {len(announcements)} announcements")


async def main():
    async with peer() as (host, gossip):
        subscription = await gossip.subscribe(TOPIC)
        # a mesh is made at the heartbeats of both sides
        await trio.sleep(2)
        ads = await listed(host)
        await quote(host, ads[0])
        await heard(subscription)
        async with peer() as (vandal, its_gossip):
            await vandalise(vandal, its_gossip)
        await quote(host, (await listed(host))[0])
        async with peer() as (newcomer, _):
            await listed(newcomer)
        say("served as before the garbage")
    sys.stdout.flush()
    # py-libp2p waits long for streams that the other side has dropped
    os._exit(0)


trio.run(main)
