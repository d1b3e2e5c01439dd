"""Hashes, canonical JSON and hashes of the bytes of specs, recorded when specs were plain dicts. They never change."""

from __future__ import annotations

HASHES = {
    "stream": {
        "scheduled": "94175d4e370f7b50",
        "departures": "82d666cb971ec149",
        "arrivals": "4fda74d184535d37",
        "weather": "90f30df0020bbfb1",
        "readings": "16fb832ec51af59b",
        "available at a field": "a846107ae698a5a0",
        "loaded in bulk": "7c869f8e6829ea7a",
        "loaded in bulk, 60m": "f3746b07c46713bd",
        "payments": "2674f96b43ae0c90",
    },
    "entity": {
        "one key": "71b669a29ef4b0b6",
        "int": "269e5fd33b835c93",
        "two keys": "95989450f8c583da",
        "keys of two types": "c6ec91d7dd2c9512",
    },
    "view": {
        "aggregate count": "22994809b467042c",
        "aggregate count of a value": "fd1f6e1c2353a1c1",
        "aggregate count where": "a4563ad13ba4734c",
        "aggregate sum": "60aad75a3784927e",
        "aggregate sum of an expression": "e7af3cf04e2c58a1",
        "aggregate mean": "a43261f79bba9f68",
        "aggregate mean of a bool": "4c776cc8535dc9be",
        "aggregate variance": "d7af2e50dd15f9c4",
        "aggregate std": "7cef50d17fd05fb4",
        "aggregate min": "126b9364322d3ca8",
        "aggregate max": "0ea081c800f42ea6",
        "aggregate first": "845cec8f6843fddf",
        "aggregate last": "8a32e1ea2d94106e",
        "aggregate last_n": "c13e886f30cb61b7",
        "aggregate decayed_sum": "0c272ef880fd5bd4",
        "aggregate decayed_sum of a timedelta": "bcef1952ac6fd063",
        "aggregate approx_distinct": "95088b53d9cf0c9a",
        "aggregate approx_distinct precise": "478cb0936084578d",
        "aggregate quantile": "1c97f7e2aa39b25b",
        "aggregate quantiles": "c20977d96b6462f3",
        "aggregate histogram": "99fae43859631551",
        "aggregate histogram of large edges": "7b4710681b83a619",
        "window 1h": "22994809b467042c",
        "window 90s": "3616a6eb9925bc4a",
        "window timedelta": "768e5f451e79862d",
        "window sliding": "4b6a82e0d0e5279c",
        "window tumbling": "2501445cd7a1a043",
        "window lifetime": "a5116e66c62ed0e7",
        "every setting": "5fd5a37a98147371",
        "flights airport": "773fa31dc1de5376",
        "flights carrier": "6f1edf396eacbd50",
        "flights destination": "074ac99008a017cf",
        "flights route": "8bfce3c0fe2cf3d7",
        "flights weather": "fa8536974dc2cea6",
        "lookups shop": "4b11696c94beab92",
        "lookups till": "c5dd00be5e53d86b",
        "feast shop": "d882e3cec76124a4",
        "feast till": "c42a3902102dbff2",
        "feast numbered": "6e4071fd545c9220",
        "rollout 0": "0ea5d112c7976a9d",
        "rollout 1": "4f8d13842b8c95dd",
        "rollout 2": "fbb60d409d8fa26e",
        "card payments card": "1154fd75e7c3425f",
        "card payments merchant": "5bcdb9b13a5a765f",
        "crash": "b14356f9d5b5cb8a",
        "orders": "a385022e809d11f7",
    },
    "service": {
        "plain": "87c58006490946c5",
        "on demand": "aeec6abf7047177c",
        "flights": "ce6332a598455b94",
        "lookups": "68b6dd37b877e8f0",
        "feast": "9ec1ac9a86af996a",
        "card payments": "25621105bec15252",
        "crash": "35d6d087c7482abc",
    },
    "model": {
        "own event": "73ad7766a97216f2",
        "trigger volume": "140aeb28867bcaba",
        "trigger drift": "e021c9e9e97bab5f",
        "trigger drift at a rate": "badc7e56ba915e96",
        "trigger performance": "feb5f446dd60e154",
        "trigger performance against": "4d230dbf66d1294e",
        "trigger schedule": "206ab1d86c97ee6d",
        "trigger any_of": "5dda304f6071bc9a",
        "trigger all_of": "6d2b3813cb57cbb8",
        "trigger at_least": "1d5e4d038855f867",
        "trigger consecutive": "0d2d285308c8ce01",
        "trigger hysteresis": "ea571959ad25474b",
        "gate better": "140aeb28867bcaba",
        "gate not worse": "e703013d62b005d7",
        "gate manual": "596f5ae20c34df7a",
        "gate without a word": "479a359b54706464",
        "gate of entities": "05b3655138eb0e11",
        "every setting": "e96835c4bea518c6",
        "flights": "1d9c10f199054816",
        "card payments": "388c0bb55259e588",
        "orders": "de51c59064461fef",
        "flights, ignored": "7fbc47c31108541a",
        "card payments, ignored": "9f1e51aabcd07d6e",
        "orders, ignored": "e0f55005e958b6bf",
    },
    "label": {
        "drop": "6c7343b65f4be0b8",
        "flights": "d76728740091340c",
    },
    "gate": {
        "better": "e21c2c37111378f7",
        "not worse": "c78965d18d95dc78",
        "manual": "adc30d221053f970",
        "without a word": "a7248dc19da13d03",
        "of entities": "adce11f8ca951d2d",
    },
    "trigger": {
        "volume": "3be5b8d1d2fa4cb7",
        "drift": "8dc7efe0c411566c",
        "drift at a rate": "a5b6d497e0091b52",
        "performance": "e7cbaa639b0db861",
        "performance against": "ae166af5d8a00f40",
        "schedule": "4b34b680193c7239",
        "any_of": "462d4deee889461b",
        "all_of": "4c203c83118b4956",
        "at_least": "5bf27bbbd2d18b49",
        "consecutive": "780cff5690c23257",
        "hysteresis": "a26a8c4b64dc9f27",
    },
}
EXACT = {
    ("stream", "readings"): (
        '{"available_at":"record","event":"Reading","event_time":"seen_at","fields":[{"kind":"int","many":fal'
        'se,"name":"sensor","nullable":false},{"kind":"str","many":false,"name":"room","nullable":true},{"kin'
        'd":"float","many":false,"name":"value","nullable":false},{"kind":"int","many":false,"name":"level","'
        'nullable":true},{"kind":"bool","many":false,"name":"is_on","nullable":false},{"kind":"str","many":tr'
        'ue,"name":"tags","nullable":false},{"kind":"datetime","many":false,"name":"seen_at","nullable":false'
        '},{"kind":"datetime","many":false,"name":"known_at","nullable":false}],"key":["sensor","room"],"late'
        'ness_us":600000000,"tolerance_us":90000000,"topic":"readings"}'
    ),
    ("view", "every setting"): (
        '{"clock":"stream","delay_us":250000,"derived":[["half",["div",["col","value"],["lit",2]]],["night",['
        '"lt",["hour",["col","seen_at"]],["lit",6]]]],"entity":{"keys":[["sensor","int"],["room","str"]],"nam'
        'e":"place"},"features":[{"aggregate":"count","name":"n","value":null,"where":null},{"aggregate":"sum'
        '","name":"half","value":["col","half"],"where":null}],"history_us":1200000000,"max_age_us":172800000'
        '000,"source":{"available_at":"record","event":"Reading","event_time":"seen_at","fields":[{"kind":"in'
        't","many":false,"name":"sensor","nullable":false},{"kind":"str","many":false,"name":"room","nullable'
        '":true},{"kind":"float","many":false,"name":"value","nullable":false},{"kind":"int","many":false,"na'
        'me":"level","nullable":true},{"kind":"bool","many":false,"name":"is_on","nullable":false},{"kind":"s'
        'tr","many":true,"name":"tags","nullable":false},{"kind":"datetime","many":false,"name":"seen_at","nu'
        'llable":false},{"kind":"datetime","many":false,"name":"known_at","nullable":false}],"key":["sensor",'
        '"room"],"lateness_us":600000000,"tolerance_us":90000000,"topic":"readings"},"spec_version":1,"view":'
        '"full","where":["gt",["col","value"],["lit",0]],"windows":[{"length_us":3600000000,"name":"1h","tile'
        '_us":60000000},{"length_us":4611686018427387904,"name":"lifetime","tile_us":2305843009213693952}]}'
    ),
    ("view", "aggregate quantiles"): (
        '{"clock":"wall","delay_us":1000,"derived":[],"entity":{"keys":[["room","str"]],"name":"room"},"featu'
        'res":[{"aggregate":"quantile","bits":4,"name":"f","q":[0.5,0.99,0.999],"value":["col","value"],"wher'
        'e":null}],"history_us":0,"max_age_us":null,"source":{"available_at":"record","event":"Reading","even'
        't_time":"seen_at","fields":[{"kind":"int","many":false,"name":"sensor","nullable":false},{"kind":"st'
        'r","many":false,"name":"room","nullable":true},{"kind":"float","many":false,"name":"value","nullable'
        '":false},{"kind":"int","many":false,"name":"level","nullable":true},{"kind":"bool","many":false,"nam'
        'e":"is_on","nullable":false},{"kind":"str","many":true,"name":"tags","nullable":false},{"kind":"date'
        'time","many":false,"name":"seen_at","nullable":false},{"kind":"datetime","many":false,"name":"known_'
        'at","nullable":false}],"key":["sensor","room"],"lateness_us":600000000,"tolerance_us":90000000,"topi'
        'c":"readings"},"spec_version":1,"view":"v","where":null,"windows":[{"length_us":3600000000,"name":"1'
        'h","tile_us":60000000}]}'
    ),
    ("view", "aggregate sum of an expression"): (
        '{"clock":"wall","delay_us":1000,"derived":[],"entity":{"keys":[["room","str"]],"name":"room"},"featu'
        'res":[{"aggregate":"sum","name":"f","value":["add",["mul",["col","value"],["lit",2]],["lit",1]],"whe'
        're":["is_in",["col","room"],["kitchen","café"]]}],"history_us":0,"max_age_us":null,"source":{"availa'
        'ble_at":"record","event":"Reading","event_time":"seen_at","fields":[{"kind":"int","many":false,"name'
        '":"sensor","nullable":false},{"kind":"str","many":false,"name":"room","nullable":true},{"kind":"floa'
        't","many":false,"name":"value","nullable":false},{"kind":"int","many":false,"name":"level","nullable'
        '":true},{"kind":"bool","many":false,"name":"is_on","nullable":false},{"kind":"str","many":true,"name'
        '":"tags","nullable":false},{"kind":"datetime","many":false,"name":"seen_at","nullable":false},{"kind'
        '":"datetime","many":false,"name":"known_at","nullable":false}],"key":["sensor","room"],"lateness_us"'
        ':600000000,"tolerance_us":90000000,"topic":"readings"},"spec_version":1,"view":"v","where":null,"win'
        'dows":[{"length_us":3600000000,"name":"1h","tile_us":60000000}]}'
    ),
    ("service", "plain"): (
        '{"service":"comfort","spec_version":1,"views":[["full","5fd5a37a98147371"]]}'
    ),
    ("service", "on demand"): (
        '{"on_demand":{"features":[{"kind":"float","name":"ratio","value":["div",["col","price"],["col","full'
        '__half_1h"]]},{"kind":"bool","name":"is_dear","value":["fill_null",["gt",["col","ratio"],["lit",2]],'
        '["lit",false]]},{"kind":"bool","name":"early","value":["lt",["hour",["col","asked_at"]],["lit",6]]}]'
        ',"request":[{"kind":"float","name":"price","nullable":false},{"kind":"datetime","name":"asked_at","n'
        'ullable":true}]},"service":"comfort","spec_version":2,"views":[["full","5fd5a37a98147371"]]}'
    ),
    ("model", "every setting"): (
        '{"at":"asked_at","cooldown":"36h","daily_budget":3,"features":"comfort","first":500,"fit":"tests.uni'
        't.test_spec_hashes:fit","gate":{"holdout":"14d","margin":0.0,"metric":"auc","rule":"better"},"key":"'
        'sensor","label":{"missing":"drop","on":"sensor","topic":"readings","value":["gt",["col","value"],["l'
        'it",15]],"within_us":129600000000},"model":"warm-2","on_demand":{"features":[{"kind":"float","name":'
        '"ratio","value":["div",["col","price"],["col","full__half_1h"]]},{"kind":"bool","name":"is_dear","va'
        'lue":["fill_null",["gt",["col","ratio"],["lit",2]],["lit",false]]},{"kind":"bool","name":"early","va'
        'lue":["lt",["hour",["col","asked_at"]],["lit",6]]}],"request":[{"kind":"float","name":"price","nulla'
        'ble":false},{"kind":"datetime","name":"asked_at","nullable":true}]},"request_features":["hour"],"req'
        'uests":"asked","source":"logged","spec_version":1,"triggers":{"labels":2000,"rule":"volume"},"views"'
        ':[["full","5fd5a37a98147371"]]}'
    ),
    ("gate", "better"): '{"holdout":"14d","margin":0.0,"metric":"auc","rule":"better"}',
    ("gate", "without a word"): (
        '{"holdout":"14d","margin":0.0,"metric":"auc","rule":"better","serial_correlation":"measured"}'
    ),
    ("gate", "of entities"): '{"block":["room"],"holdout":"14d","margin":0.0,"metric":"auc","rule":"better"}',
    ("trigger", "hysteresis"): (
        '{"of":{"count":1,"rule":"at_least","rules":{"performance":{"drop":0.03,"metric":"auc","rule":"perfor'
        'mance"},"volume":{"labels":2000,"rule":"volume"}}},"rearm":0.25,"rule":"hysteresis"}'
    ),
}  # fmt: skip
WIRE = {
    "stream": {
        "scheduled": "be856d2ced04d89d",
        "departures": "3917b48739b28c80",
        "arrivals": "6b9004142a1e0b29",
        "weather": "4b167b48768fca7f",
        "readings": "7d7d61d7abc38bdf",
        "available at a field": "2de09d9549160bc3",
        "loaded in bulk": "4fd642086a1d4f3f",
        "loaded in bulk, 60m": "e3d00279946fea62",
        "payments": "a9602d356b311bb2",
    },
    "entity": {
        "one key": "3859db5895035b88",
        "int": "ede4ab970b49a122",
        "two keys": "4c0282f6d66d9ef0",
        "keys of two types": "07ba8ccf6cf63efc",
    },
    "view": {
        "aggregate count": "38386be83336ac7d",
        "aggregate count of a value": "eefde80c77f7abbe",
        "aggregate count where": "2f21e5fd341b8436",
        "aggregate sum": "ad0bb79cea11b3fa",
        "aggregate sum of an expression": "1847f63ad763df7f",
        "aggregate mean": "c095d61bc03382ec",
        "aggregate mean of a bool": "3483fcc46ca01f98",
        "aggregate variance": "1ab3020118f52022",
        "aggregate std": "1f47e8b7265ef971",
        "aggregate min": "74606342dd243372",
        "aggregate max": "861f4fb6611746ed",
        "aggregate first": "b45a1ba0703dec33",
        "aggregate last": "8de52e73ed5331a7",
        "aggregate last_n": "9761493a439e360b",
        "aggregate decayed_sum": "fbba02e0f875e15e",
        "aggregate decayed_sum of a timedelta": "a7ff8904116a8b5d",
        "aggregate approx_distinct": "375a17b684197579",
        "aggregate approx_distinct precise": "bd089f8ed6d6ff91",
        "aggregate quantile": "e8ca3aaa9ae05039",
        "aggregate quantiles": "a3eda18098564554",
        "aggregate histogram": "e0d1819448de9901",
        "aggregate histogram of large edges": "fc5bfca1ab1d8296",
        "window 1h": "38386be83336ac7d",
        "window 90s": "7a0c938740eb6c9b",
        "window timedelta": "0294aff9529352bd",
        "window sliding": "e7e2982ba9661ea9",
        "window tumbling": "43e12dcf66b00f3a",
        "window lifetime": "7cc4454ff413d76b",
        "every setting": "c76d159804450f3c",
        "flights airport": "eca133d4c3a89952",
        "flights carrier": "a5c89ea729ffe286",
        "flights destination": "bb103d0cf6653f38",
        "flights route": "b6c8e9b8d920feaa",
        "flights weather": "2d1d6df65f10ab08",
        "lookups shop": "b6dc62ee08a83c39",
        "lookups till": "80cea718e69e66e0",
        "feast shop": "04b18270f43b55ad",
        "feast till": "cb50095ecad0f0a0",
        "feast numbered": "043eded085a153fd",
        "rollout 0": "0ca8efef07c3f920",
        "rollout 1": "76b750ec17468e2e",
        "rollout 2": "0d38a5f7b0698a01",
        "card payments card": "6fb527e02a17eb0c",
        "card payments merchant": "0f1a8717102f4114",
        "crash": "c2a9a2d7bf558398",
        "orders": "d68ea5c4bb93e0bb",
    },
    "service": {
        "plain": "5b0bf2e9c2ea34aa",
        "on demand": "98f633437ba7e374",
        "flights": "0cc6bbcc07fb7f8c",
        "lookups": "8c32ddd0bbcf746f",
        "feast": "1d053fcd27fd3fb8",
        "card payments": "7c07c40e93cf33a6",
        "crash": "0050cd1523841828",
    },
    "model": {
        "own event": "9c898974c18e8d9b",
        "trigger volume": "d86002bf8d44a257",
        "trigger drift": "9264d575c2da844e",
        "trigger drift at a rate": "ddb3a9e70375d231",
        "trigger performance": "9eaa657bb0683646",
        "trigger performance against": "a5f895ccd4699c9f",
        "trigger schedule": "e3c4f9794e34370b",
        "trigger any_of": "c4defc9ecf8e6d50",
        "trigger all_of": "2f1397330be26f2d",
        "trigger at_least": "32758e9215f36e5b",
        "trigger hysteresis": "982e38b8600dab16",
        "gate better": "d86002bf8d44a257",
        "gate not worse": "36c9d933573a7fc7",
        "gate manual": "a1e2f4b3e58bd198",
        "every setting": "34033eea5382b5ec",
        "flights": "0527f15234901587",
        "card payments": "bb402e6acb4786de",
        "orders": "23613960cc0da5ce",
        "flights, ignored": "96695cdde4a5135c",
        "card payments, ignored": "6f088b37797d40a9",
        "orders, ignored": "c9ab128bc30d37fb",
    },
}
