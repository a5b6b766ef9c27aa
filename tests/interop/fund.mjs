// Gives an account of the devnet coin for gas and test dollars, out of a renter's pocket: fund.mjs DEVNET_JSON ADDRESS. A provider holds a slot
// only for a wallet that could pay.

import { createTestClient, createWalletClient, http, parseAbi, parseEther } from 'viem'
import { readNetwork } from './market.mjs'

const network = readNetwork(process.argv[2])
const to = process.argv[3]
const renter = network.nodes.find((node) => node.roles.includes('renter')).wallet
const chain = { id: network.chain_id, name: 'devnet', nativeCurrency: { name: 'coin', symbol: 'ETH', decimals: 18 }, rpcUrls: {} }
const transport = http(network.rpc)
const anvil = createTestClient({ mode: 'anvil', chain, transport })
await anvil.setBalance({ address: to, value: parseEther('1') })
await anvil.impersonateAccount({ address: renter })
await createWalletClient({ account: renter, chain, transport }).writeContract({
  address: network.token.address,
  abi: parseAbi(['function transfer(address to, uint256 amount) returns (bool)']),
  functionName: 'transfer',
  args: [to, 10n ** BigInt(network.token.decimals)],
})
